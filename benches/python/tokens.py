"""From a token to whom it speaks for, and on to the whole decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from itertools import count
from threading import Lock

from cachetools import TTLCache
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from quotum import Identity, Quota

from engine import TOKENS_MAX, from_memory, subjects, verified
from measure import Asks, Comparison, Contender, Scale, UnexpectedError, uniform
from peers import PER_MINUTE

LENGTH = 800
"""As long as a JWT."""

NEW_EVERY = 20
"""One token in so many was never seen: 95 of 100 are in the cache."""


def comparisons(scale: Scale, quota: Quota) -> Iterator[Comparison]:
    """Beside the cache that one writes by hand, whose misses have the same to verify."""
    ids = subjects(scale.subjects)
    for what, asks in [("all known", Tokens(ids, 0)), ("95 % known", Tokens(ids, NEW_EVERY))]:
        beside = [by_hand(asks, ratio_max=1 / 3), digest(asks)]
        yield Comparison(f"authenticate 800 bytes, {what}", authenticating(quota, asks), beside, us_max=2.0)
        ours, peer = admitting(quota, asks), by_hand_limited(asks)
        yield Comparison(f"admit by 800 bytes, {what}", ours, [peer], watch=partial(from_memory, quota))


class Tokens(Asks[str]):
    """A token of each subject, the same for all up to its end; and new ones among them."""

    def __init__(self, ids: Sequence[str], new_every: int) -> None:
        super().__init__([token(subject) for subject in ids], uniform(len(ids)))
        self._new_every = new_every
        self._numbers = count()

    def some(self, count: int) -> Sequence[str]:
        tokens = list(super().some(count))
        if self._new_every:
            for place in range(0, count, self._new_every):
                tokens[place] = f"{next(self._numbers):09}{tokens[place][9:]}"
        return tokens


def token(subject: str) -> str:
    """Its end says whose it is."""
    return f"{'x' * (LENGTH - 1 - len(subject))}.{subject}"


def authenticating(quota: Quota, asks: Asks[str]) -> Contender[str]:
    """Whom it speaks for, and no more."""

    def loop(tokens: Sequence[str]) -> None:
        authenticate = quota.authenticate
        for token in tokens:
            if not authenticate(token):
                raise UnexpectedError(token)

    return Contender("quotum", loop, asks)


def admitting(quota: Quota, asks: Asks[str]) -> Contender[str]:
    """The whole flow, from a token to the quotas."""

    def loop(tokens: Sequence[str]) -> None:
        admit = quota.admit
        for token in tokens:
            if not admit(token=token, rate="api", searches=1):
                raise UnexpectedError(token)

    return Contender("quotum", loop, asks)


def cache_by_hand() -> Callable[[str], Identity]:
    """A bounded cache by the digest of the whole token, safe to share between threads."""
    cache: TTLCache[bytes, Identity] = TTLCache(TOKENS_MAX, ttl=300)
    lock = Lock()

    def authenticate(token: str) -> Identity:
        digest = sha256(token.encode()).digest()
        with lock:
            known = cache.get(digest)
        if known is None:
            known = verified(token)
            with lock:
                cache[digest] = known
        return known

    return authenticate


def by_hand(asks: Asks[str], ratio_max: float) -> Contender[str]:
    """That cache."""
    authenticate = cache_by_hand()

    def loop(tokens: Sequence[str]) -> None:
        for token in tokens:
            if not authenticate(token):
                raise UnexpectedError(token)

    return Contender("sha256 + Lock + TTLCache", loop, asks, ratio_max)


def by_hand_limited(asks: Asks[str]) -> Contender[str]:
    """That cache, and a rate for whom it finds."""
    authenticate = cache_by_hand()
    limiter = FixedWindowRateLimiter(MemoryStorage())

    def loop(tokens: Sequence[str]) -> None:
        hit, limit = limiter.hit, PER_MINUTE
        for token in tokens:
            if not hit(limit, authenticate(token).subject):
                raise UnexpectedError(token)

    return Contender("TTLCache + limits, fixed window", loop, asks)


def digest(asks: Asks[str]) -> Contender[str]:
    """The part of it that nobody can leave out."""

    def loop(tokens: Sequence[str]) -> None:
        for token in tokens:
            if not sha256(token.encode()).digest():
                raise UnexpectedError(token)

    return Contender("sha256 alone", loop, asks)
