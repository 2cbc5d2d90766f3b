"""Threads on different subjects. One runs Python at a time, so that two can be no faster; they should be no slower."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from quotum import Quota

import peers
from decisions import consuming
from engine import from_memory, subjects
from measure import Asks, Comparison, Contender, Scale, uniform

Loop = Callable[[Sequence[str]], object]


def comparisons(scale: Scale, quota: Quota) -> Iterator[Comparison]:
    """Two threads beside one."""
    ids = subjects(scale.subjects)
    asks = Asks(ids, uniform(len(ids)))
    ours, limits = consuming("", quota, asks).ours, peers.limits_fixed(asks)
    yield Comparison(
        "consume, leased, two threads",
        Contender("quotum", shared_out(ours.loop, 2), asks),
        [
            Contender("quotum, one thread", ours.loop, asks, ratio_max=1.0),
            Contender("limits, fixed window, two threads", shared_out(limits.loop, 2), asks),
            Contender("limits, fixed window, one thread", limits.loop, asks),
        ],
        watch=partial(from_memory, quota),
    )


def shared_out(loop: Loop, callers: int) -> Loop:
    """The same calls, made by so many threads at once. A time is then that of all calls together."""

    def together(ids: Sequence[str]) -> None:
        with ThreadPoolExecutor(callers) as threads:
            list(threads.map(loop, [ids[caller::callers] for caller in range(callers)]))

    return together
