"""What is set for a deployment, in its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PLANS = Path(__file__).parents[2] / "plans" / "chat.toml"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a deployment differs from others."""

    quotum_url: str = "sqlite:chat.db"
    """Where it counts: an SQLite file, "postgres://…" or "redis://…"."""
    plans: Path = PLANS
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Whose each key is. A real backend would ask its own table."""
    answer_s_max: float = 600
    """How long an answer may take. As long its tokens are held at the most, even if this process is killed."""
    model_pause_s: float = 0
    """How long the model thinks about each word."""
    store_timeout_s: float = 5

    @classmethod
    def from_environment(cls) -> Settings:
        environment = os.environ
        keys = dict(pair.split("=", 1) for pair in environment.get("CHAT_KEYS", "").split(",") if pair)
        return cls(
            quotum_url=environment.get("QUOTUM_URL", cls.quotum_url),
            plans=Path(environment.get("PLANS", cls.plans)),
            keys=keys,
            answer_s_max=float(environment.get("ANSWER_S_MAX", cls.answer_s_max)),
            model_pause_s=float(environment.get("MODEL_PAUSE_S", cls.model_pause_s)),
            store_timeout_s=float(environment.get("STORE_TIMEOUT_S", cls.store_timeout_s)),
        )
