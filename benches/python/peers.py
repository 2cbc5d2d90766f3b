"""The peers, each set up as its documentation says, with a limit that nobody reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage, Storage
from limits.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    RateLimiter,
    SlidingWindowCounterRateLimiter,
)
from pyrate_limiter import BucketFactory, Duration, InMemoryBucket, Limiter, Rate, RateItem
from pyrate_limiter.clocks import MonotonicClock
from throttled import MemoryStore, Throttled
from throttled.rate_limiter import per_min

from measure import Asks, Contender, UnexpectedError

LIMIT = 1_000_000_000
PER_MINUTE: RateLimitItem = RateLimitItemPerMinute(LIMIT)


def limits_fixed(asks: Asks[str], *, storage: Storage | None = None, ratio_max: float | None = None) -> Contender[str]:
    """limits with its fastest strategy."""
    limiter = FixedWindowRateLimiter(storage or MemoryStorage())
    return Contender("limits, fixed window", _hits(limiter), asks, ratio_max)


def limits_sliding(asks: Asks[str], *, ratio_max: float | None = None) -> Contender[str]:
    """limits with two weighted windows."""
    limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
    return Contender("limits, sliding window", _hits(limiter), asks, ratio_max)


def limits_moving(asks: Asks[str]) -> Contender[str]:
    """limits with a list of the times of all calls."""
    return Contender("limits, moving window", _hits(MovingWindowRateLimiter(MemoryStorage())), asks)


def _hits(limiter: RateLimiter) -> Callable[[Sequence[str]], None]:
    def loop(keys: Sequence[str]) -> None:
        hit, limit = limiter.hit, PER_MINUTE
        for key in keys:
            if not hit(limit, key):
                raise UnexpectedError(key)

    return loop


def throttled(algorithm: str, asks: Asks[str]) -> Contender[str]:
    """throttled-py, with room for all keys: it keeps 1,024 otherwise."""
    limiter = Throttled(using=algorithm, quota=per_min(LIMIT), store=MemoryStore(options={"MAX_SIZE": 100_000}))

    def loop(keys: Sequence[str]) -> None:
        limit = limiter.limit
        for key in keys:
            if limit(key).limited:
                raise UnexpectedError(key)

    return Contender(f"throttled-py, {algorithm}", loop, asks)


class _BucketOfEach(BucketFactory):
    """A bucket for each key, as pyrate-limiter has its users write it."""

    def __init__(self) -> None:
        self._buckets: dict[str, InMemoryBucket] = {}
        self._clock = MonotonicClock()

    def wrap_item(self, name: str, weight: int = 1) -> RateItem:
        return RateItem(name, self._clock.now(), weight=weight)

    def get(self, item: RateItem) -> InMemoryBucket:
        bucket = self._buckets.get(item.name)
        if bucket is None:
            bucket = self._buckets[item.name] = InMemoryBucket([Rate(LIMIT, Duration.MINUTE)])
            self.schedule_leak(bucket)
        return bucket


@contextmanager
def pyrate(asks: Asks[str]) -> Iterator[Contender[str]]:
    """pyrate-limiter in memory. It has a thread, which ends with it."""
    with Limiter(_BucketOfEach()) as limiter:

        def loop(keys: Sequence[str]) -> None:
            acquire = limiter.try_acquire
            for key in keys:
                if not acquire(key, blocking=False):
                    raise UnexpectedError(key)

        yield Contender("pyrate-limiter", loop, asks)
