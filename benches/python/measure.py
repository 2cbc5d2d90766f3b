"""Measures contenders in turn: what a call takes of each, and how that compares.

What makes the figures worth believing:

- Contenders take turns within each round, and every second round goes backwards. A machine whose clock swings is as
  slow for one as for the other, so that ratios of one run can be trusted where microseconds of two runs cannot.
- A ratio is the median of the rounds' own ratios, and a time the median of the rounds' times.
- Every key is asked for once before the clock starts, and what is asked for while it runs is prepared before.
- A contender's loop is written out for it: no function of ours stands between the loop and the call. What is left of
  the loop, an empty pass over the same list, is measured and taken off.
- Every answer is looked at: a loop that gets another one than it should ends the run.
- The garbage collector runs as it does in a backend, but nobody starts with the garbage of the one before.
"""

from __future__ import annotations

import gc
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Any, Generic, TypeVar

T = TypeVar("T")

SEED = 0x5155_4F54_554D_0001
"""What the generator starts from, in every run and in the benchmarks in Rust."""

OPS_MAX = 1 << 17
"""The most calls of one pass."""

OPS_MIN = 16


class UnexpectedError(Exception):
    """An answer that would make the figures worthless."""


@dataclass(frozen=True)
class Scale:
    """How long everything is measured."""

    rounds: int
    pass_s: float
    subjects: int


class Random:
    """The generator of Vigna's splitmix64."""

    def __init__(self, seed: int = SEED) -> None:
        self._state = seed

    def next(self) -> int:
        """64 bits."""
        self._state = (self._state + 0x9E37_79B9_7F4A_7C15) & (1 << 64) - 1
        mixed = self._state
        mixed = (mixed ^ mixed >> 30) * 0xBF58_476D_1CE4_E5B9 & (1 << 64) - 1
        mixed = (mixed ^ mixed >> 27) * 0x94D0_49BB_1331_11EB & (1 << 64) - 1
        return mixed ^ mixed >> 31

    def below(self, count: int) -> int:
        """A whole number from 0 to count - 1."""
        return self.next() * count >> 64

    def fraction(self) -> float:
        """From 0 to just below 1."""
        return (self.next() >> 11) / (1 << 53)


def uniform(keys: int) -> list[int]:
    """Which key each call of a pass asks for: any, all as likely."""
    random = Random()
    return [random.below(keys) for _ in range(OPS_MAX)]


def zipf(keys: int) -> list[int]:
    """Which key each call of a pass asks for: by Zipf's law with an exponent of 0.99, its ranks permuted."""
    random = Random()
    sums = list(accumulate(rank**-0.99 for rank in range(1, keys + 1)))
    of_rank = list(range(keys))
    for index in range(keys - 1, 0, -1):
        other = random.below(index + 1)
        of_rank[index], of_rank[other] = of_rank[other], of_rank[index]
    return [of_rank[bisect_left(sums, random.fraction() * sums[-1])] for _ in range(OPS_MAX)]


class Asks(Generic[T]):
    """What a contender is asked for."""

    def __init__(self, every: Sequence[T], picks: Sequence[int]) -> None:
        self.every = every
        self._picked = [every[pick] for pick in picks]

    def some(self, count: int) -> Sequence[T]:
        """What the calls of one pass ask for. Called before the clock starts."""
        return self._picked[:count]


@dataclass(frozen=True)
class Contender(Generic[T]):
    """Who is measured: a loop that makes one call for each thing it is given."""

    name: str
    loop: Callable[[Sequence[T]], object]
    asks: Asks[T]
    ratio_max: float | None = None
    """The goal beside this peer: how many times as long as it we take at most."""


@dataclass(frozen=True)
class Comparison:
    """Ours beside its peers."""

    what: str
    ours: Contender[Any]
    peers: Sequence[Contender[Any]]
    us_max: float | None = None
    """The goal for ours alone, in microseconds a call."""
    watch: Callable[[], Callable[[], str]] | None = None
    """Begins to watch when all are warm, and tells at the end what there was to see."""


@dataclass(frozen=True)
class Goal:
    """What was hoped for, and whether it is so: data, on which no run fails."""

    text: str
    is_met: bool


@dataclass(frozen=True)
class Row:
    """Ours beside one peer."""

    ours_us: float
    peer: str
    peer_us: float
    ratio: float
    goals: Sequence[Goal]


def measured(comparison: Comparison, scale: Scale) -> tuple[list[Row], str | None]:
    """Measures all contenders of a comparison in turn: a row for each peer, and what was seen."""
    contenders = [comparison.ours, *comparison.peers]
    counts = [_warmed(contender, scale) for contender in contenders]
    empty_us = _empty_us(comparison.ours.asks)
    turns = list(enumerate(zip(contenders, counts, strict=True)))
    seen = comparison.watch and comparison.watch()
    rounds = []
    for number in range(scale.rounds):
        took_us = [0.0] * len(contenders)
        for index, (contender, count) in turns if number % 2 == 0 else reversed(turns):
            took_us[index] = _pass_s(contender, count) / count * 1e6 - empty_us
        rounds.append(took_us)
    return [_row(comparison, index, rounds) for index in range(1, len(contenders))], seen and seen()


def _row(comparison: Comparison, index: int, rounds: Sequence[Sequence[float]]) -> Row:
    peer = comparison.peers[index - 1]
    ours_us = median(took_us[0] for took_us in rounds)
    ratio = median(took_us[0] / took_us[index] for took_us in rounds)
    goals = []
    if comparison.us_max is not None and index == 1:
        goals.append(Goal(f"<= {comparison.us_max} us", ours_us <= comparison.us_max))
    if peer.ratio_max is not None:
        goals.append(Goal(f"<= {peer.ratio_max:.3g}x", ratio <= peer.ratio_max))
    return Row(ours_us, peer.name, median(took_us[index] for took_us in rounds), ratio, goals)


def _warmed(contender: Contender[Any], scale: Scale) -> int:
    """Asks once for every key, and finds how many calls take as long as a pass is to take."""
    contender.loop(contender.asks.every)
    count = OPS_MIN
    while True:
        took_s = _pass_s(contender, count)
        if took_s >= scale.pass_s / 4 or count == OPS_MAX:
            return max(OPS_MIN, min(OPS_MAX, int(count * scale.pass_s / took_s)))
        count = min(OPS_MAX, count * 4)


def _pass_s(contender: Contender[Any], count: int) -> float:
    asks = contender.asks.some(count)
    _settle()
    begin = time.perf_counter()
    contender.loop(asks)
    return time.perf_counter() - begin


def _settle() -> None:
    """Has whoever was measured before pay for what it has left behind."""
    # limits clears its keys in the thread of a timer, shortly after a call.
    while any(isinstance(thread, threading.Timer) for thread in threading.enumerate()):
        time.sleep(0.001)
    gc.collect()


def _empty_us(asks: Asks[Any]) -> float:
    items = asks.some(OPS_MAX)

    def once_us() -> float:
        begin = time.perf_counter()
        for _ in items:
            pass
        return (time.perf_counter() - begin) / len(items) * 1e6

    return median(once_us() for _ in range(5))
