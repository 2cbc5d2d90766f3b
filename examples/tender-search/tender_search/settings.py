"""What is set for a deployment, in its environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

PLANS = Path(__file__).parents[2] / "plans" / "tender-search.toml"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a deployment differs from others."""

    quotum_url: str = "sqlite:tender-search.db"
    """Where it counts: an SQLite file, "postgres://…" or "redis://…"."""
    plans: Path = PLANS
    users: Path = Path("tender-search-users.db")
    """The SQLite file of the users and their keys."""
    check_disabled: bool = False
    """The kill switch: whether enforcement is switched off at the start."""
    trusted_hops: int = 0
    """How many proxies of ours stand before the server."""
    store_timeout_s: float = 5
    admin_token: str | None = field(default=None, repr=False)
    """There is no administrator without it."""

    @classmethod
    def from_environment(cls) -> Settings:
        environment = os.environ
        return cls(
            quotum_url=environment.get("QUOTUM_URL", cls.quotum_url),
            plans=Path(environment.get("PLANS", cls.plans)),
            users=Path(environment.get("USERS", cls.users)),
            check_disabled=environment.get("QUOTUM_CHECK_DISABLED", "").lower() in ("1", "true", "yes"),
            trusted_hops=int(environment.get("TRUSTED_HOPS", cls.trusted_hops)),
            store_timeout_s=float(environment.get("STORE_TIMEOUT_S", cls.store_timeout_s)),
            admin_token=environment.get("ADMIN_TOKEN"),
        )
