"""The verbs that are awaited, where they are answered from memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from quotum import AsyncQuota, Quota

from engine import from_memory, subjects
from measure import Asks, Comparison, Contender, Scale, UnexpectedError, uniform
from peers import PER_MINUTE

Work = Callable[[Sequence[str]], Coroutine[Any, Any, None]]


def comparisons(scale: Scale, quota: Quota) -> Iterator[Comparison]:
    """Beside limits, and beside awaiting nothing at all."""
    ids = subjects(scale.subjects)
    asks = Asks(ids, uniform(len(ids)))
    event_loop = asyncio.new_event_loop()

    def awaiting(name: str, work: Work) -> Contender[str]:
        return Contender(name, lambda ids: event_loop.run_until_complete(_with_all_it_began(work, ids)), asks)

    ours = consuming(quota.to_async())

    def watch() -> Callable[[], str]:
        memory = from_memory(quota)
        return lambda: f"{memory()}; {event_loop.run_until_complete(hops(ours, ids))}"

    yield Comparison(
        "await consume, leased",
        awaiting("quotum", ours),
        [awaiting("limits.aio, fixed window", hitting()), awaiting("an empty async def", empty)],
        us_max=1.0,
        watch=watch,
    )
    event_loop.close()


async def _with_all_it_began(work: Work, ids: Sequence[str]) -> None:
    """What was put off to a task is part of what the calls take."""
    await work(ids)
    if began := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(began)


def consuming(quota: AsyncQuota) -> Work:
    """The whole decision."""

    async def work(ids: Sequence[str]) -> None:
        consume = quota.consume
        for subject in ids:
            if not await consume(subject, searches=1):
                raise UnexpectedError(subject)

    return work


def hitting() -> Work:
    """A rate alone."""
    limiter = FixedWindowRateLimiter(MemoryStorage())

    async def work(ids: Sequence[str]) -> None:
        hit, limit = limiter.hit, PER_MINUTE
        for subject in ids:
            if not await hit(limit, subject):
                raise UnexpectedError(subject)

    return work


async def empty(ids: Sequence[str]) -> None:
    """The least that an await can take."""

    async def nothing(_: str) -> bool:
        return True

    for subject in ids:
        if not await nothing(subject):
            raise UnexpectedError(subject)


async def hops(work: Work, ids: Sequence[str]) -> str:
    """How often the loop turned while these were awaited, and how many threads that began.

    An answer that came from another thread would have been waited for, and the loop would have turned.
    """
    event_loop = asyncio.get_running_loop()
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        event_loop.call_soon(turn)

    turning = event_loop.call_soon(turn)
    threads = _threads()
    await work(ids)
    began = _threads() - threads
    turning.cancel()
    return f"{turns} turns of the event loop and {began} new threads in {len(ids):,} awaits"


def _threads() -> int:
    """Native ones too, which Python does not know of, where the system tells."""
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
