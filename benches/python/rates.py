"""The rate alone: what limiters do, and a part of what Quotum does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from quotum import Quota

import backend_a
import peers
from engine import subjects
from measure import Asks, Comparison, Contender, Scale, UnexpectedError, uniform, zipf


def comparisons(scale: Scale, quota: Quota) -> Iterator[Comparison]:
    """Beside limiters in Python, and beside a backend's own."""
    keys = subjects(scale.subjects)
    for name, picks in [("uniform", uniform), ("zipf", zipf)]:
        asks = Asks(keys, picks(len(keys)))
        with peers.pyrate(asks) as pyrate:
            beside = [
                peers.limits_fixed(asks),
                peers.limits_sliding(asks),
                peers.limits_moving(asks),
                pyrate,
                peers.throttled("fixed_window", asks),
                peers.throttled("gcra", asks),
            ]
            yield Comparison(f"rate alone, {name}", admitting(quota, asks), beside)
    for live in [100, 1_000, 10_000]:
        users = subjects(live)
        asks = Asks(users, uniform(live))
        yield Comparison(f"rate alone, {live:,} live keys", admitting(quota, asks), [backends_own(users, asks)])
    new = NewKeys()
    beside_new = [backends_own(subjects(backend_a.KEYS_MAX), new)]
    yield Comparison("rate alone, every key new", limiting(quota, new), beside_new)


def admitting(quota: Quota, asks: Asks[str]) -> Contender[str]:
    """The flow with nothing but a rate."""

    def loop(keys: Sequence[str]) -> None:
        admit = quota.admit
        for key in keys:
            if not admit(key, rate="api"):
                raise UnexpectedError(key)

    return Contender("quotum", loop, asks)


def limiting(quota: Quota, asks: Asks[str]) -> Contender[str]:
    """The limiter alone, for keys that are no subjects."""

    def loop(keys: Sequence[str]) -> None:
        rate = quota.rate
        for key in keys:
            if not rate("api", key):
                raise UnexpectedError(key)

    return Contender("quotum", loop, asks)


def backends_own(users: list[str], asks: Asks[str]) -> Contender[str]:
    """Backend A's limiter, with these users in its table."""
    limiter = backend_a.Limiter.with_live(users)

    def loop(keys: Sequence[str]) -> None:
        # Its table is full already: it would be asked for every key for minutes.
        for key in keys if keys is not asks.every else ():
            if not limiter.allows(key, peers.LIMIT):
                raise UnexpectedError(key)

    return Contender("backend A's own", loop, asks)


class NewKeys(Asks[str]):
    """Keys that were never seen: every one evicts another, where there is a bound."""

    def __init__(self) -> None:
        super().__init__([], [])
        self._numbers = count()

    def some(self, count: int) -> Sequence[str]:
        return [f"new:{next(self._numbers)}" for _ in range(count)]
