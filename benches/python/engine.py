"""The engines that are measured: their plans, and how they come to grant from memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from quotum import Identity, Quota

from measure import UnexpectedError

PLANS = {
    "default_plan": "all",
    "plans": {
        "all": {
            "features": {"excel": True, "max_history_days": 30},
            "quotas": {
                "searches": ["1000000000/day", "1000000000/month"],
                "calls": "1000000000/month",
                "trials": "1/month",
            },
            "rates": {"api": "1000000000/minute"},
        }
    },
}
"""Everything is allowed for ever, but for a second trial."""

# A subject is granted from a block once it has asked eight times.
REQUESTS_BEFORE_LEASE = 9

# Blocks and subscriptions last for as long as a run, so that every comparison finds in memory what the first one did.
# By default a subscription is read again every 30 seconds, and its subject then waits for the store once.
LASTING: dict[str, Any] = {"lease": {"max": 1_000_000, "ttl_s": 1_800}, "subscription_ttl": 1_800}

TOKENS_MAX = 40_000


def subjects(count: int) -> list[str]:
    """Their ids."""
    return [f"user:{number}" for number in range(count)]


def verified(token: str) -> Identity:
    """Whom a token speaks for: its end says so. What a host does here, it does as often beside every peer."""
    return Identity(token.rpartition(".")[2])


@contextmanager
def leased(url: str, ids: Sequence[str]) -> Iterator[Quota]:
    """An engine that has leased a block of searches for each of these subjects."""
    with Quota.open(url, plans=PLANS, verifier=verified, tokens_max=TOKENS_MAX, **LASTING) as quota:

        def ask(subject: str) -> bool:
            return all(quota.consume(subject, searches=1) for _ in range(REQUESTS_BEFORE_LEASE))

        # Callers that come together share a transaction of the store.
        with ThreadPoolExecutor(16) as callers:
            if not all(callers.map(ask, ids)):
                raise UnexpectedError("denied")
        yield quota


def from_memory(quota: Quota) -> Callable[[], str]:
    """What part of the decisions from now on was answered from memory, by the engine's own account."""
    before = _decisions(quota)

    def told() -> str:
        memory, store = (now - then for now, then in zip(_decisions(quota), before, strict=True))
        return f"{memory / (memory + store):.2%} of {memory + store:,} decisions answered from memory"

    return told


def _decisions(quota: Quota) -> tuple[int, int]:
    counts = {"memory": 0, "store": 0}
    for line in quota.metrics().splitlines():
        for path in counts:
            if line.startswith(f'quotum_decision_duration_seconds_count{{path="{path}"}}'):
                counts[path] = int(line.split()[-1])
    return counts["memory"], counts["store"]
