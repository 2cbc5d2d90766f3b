"""The whole decision: subscription, plan and quotas of a day and a month; and what is decided without counting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from limits import RateLimitItemPerDay
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from quotum import Quota, Subject

import peers
from engine import PLANS, from_memory, subjects
from measure import Asks, Comparison, Contender, Scale, UnexpectedError, uniform, zipf


def comparisons(scale: Scale, quota: Quota) -> Iterator[Comparison]:
    """Beside limits, which decides on a rate alone, and beside what one writes by hand."""
    ids = subjects(scale.subjects)
    evenly = Asks(ids, uniform(len(ids)))
    yield consuming("consume, leased from SQLite", quota, evenly)
    yield consuming("the same, zipf", quota, Asks(ids, zipf(len(ids))))
    yield by_handle(quota, ids, evenly)
    yield admitting(quota, evenly)
    with Quota.open("memory:", plans=PLANS) as in_memory:
        yield consuming("consume, memory store", in_memory, evenly)
    yield denying(quota, evenly)
    yield looking_up(quota, evenly)
    yield requiring(quota, evenly)


def consuming(what: str, quota: Quota, asks: Asks[str]) -> Comparison:
    """One search, of two quotas."""

    def loop(ids: Sequence[str]) -> None:
        consume = quota.consume
        for subject in ids:
            if not consume(subject, searches=1):
                raise UnexpectedError(subject)

    beside = [peers.limits_fixed(asks, ratio_max=1 / 20), peers.limits_sliding(asks, ratio_max=1 / 40)]
    return Comparison(what, Contender("quotum", loop, asks), beside, us_max=0.4, watch=partial(from_memory, quota))


def by_handle(quota: Quota, ids: Sequence[str], asks: Asks[str]) -> Comparison:
    """The same, by whoever keeps a handle of the subject."""

    def loop(handles: Sequence[Subject]) -> None:
        for subject in handles:
            if not subject.consume(searches=1):
                raise UnexpectedError(subject.id)

    handles = Asks([quota.subject(subject) for subject in ids], uniform(len(ids)))
    beside = [peers.limits_fixed(asks)]
    return Comparison(
        "the same, by a handle", Contender("quotum", loop, handles), beside, watch=partial(from_memory, quota)
    )


def admitting(quota: Quota, asks: Asks[str]) -> Comparison:
    """What a middleware asks: a rate and a quota, all or nothing."""

    def loop(ids: Sequence[str]) -> None:
        admit = quota.admit
        for subject in ids:
            if not admit(subject, rate="api", searches=1):
                raise UnexpectedError(subject)

    beside = [peers.limits_fixed(asks)]
    return Comparison(
        "admit: a rate and a search", Contender("quotum", loop, asks), beside, watch=partial(from_memory, quota)
    )


def denying(quota: Quota, asks: Asks[str]) -> Comparison:
    """What every subject has used up, and asks for again."""

    def loop(ids: Sequence[str]) -> None:
        consume = quota.consume
        for subject in ids:
            if consume(subject, trials=1):
                raise UnexpectedError(subject)

    limiter, limit = FixedWindowRateLimiter(MemoryStorage()), RateLimitItemPerDay(1)

    def limits_loop(ids: Sequence[str]) -> None:
        hit = limiter.hit
        for subject in ids:
            if hit(limit, subject):
                raise UnexpectedError(subject)

    for subject in asks.every:
        limiter.hit(limit, subject)
        # Allowed, then denied by the store, which is remembered.
        for _ in range(2):
            quota.consume(subject, trials=1)
    ours, peer = Contender("quotum", loop, asks), Contender("limits, at its limit", limits_loop, asks)
    return Comparison("a denial that is known", ours, [peer], watch=partial(from_memory, quota))


def looking_up(quota: Quota, asks: Asks[str]) -> Comparison:
    """What a subject's plan has."""

    def loop(ids: Sequence[str]) -> None:
        feature = quota.feature
        for subject in ids:
            if feature(subject, "max_history_days") != 30:
                raise UnexpectedError(subject)

    return Comparison("feature", Contender("quotum", loop, asks), [dictionary(asks)])


def requiring(quota: Quota, asks: Asks[str]) -> Comparison:
    """Whether a subject's plan has as much."""

    def loop(ids: Sequence[str]) -> None:
        require = quota.require
        for subject in ids:
            if not require(subject, "max_history_days", 30):
                raise UnexpectedError(subject)

    return Comparison("require", Contender("quotum", loop, asks), [dictionary(asks)])


def dictionary(asks: Asks[str]) -> Contender[str]:
    """The least that could do it: no expiry, no change of plan, no trial, no upgrade to suggest."""
    plan_of = dict.fromkeys(asks.every, "all")
    features = {"all": {"excel": True, "max_history_days": 30}}

    def loop(ids: Sequence[str]) -> None:
        for subject in ids:
            if features[plan_of[subject]]["max_history_days"] != 30:
                raise UnexpectedError(subject)

    return Contender("two dicts", loop, asks)
