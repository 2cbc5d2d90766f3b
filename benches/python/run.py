"""Measures Quotum beside its peers in Python, in one run, and prints ratios beside the goals.

    pip install -r benches/python/requirements.txt
    python benches/python/run.py
    python benches/python/run.py --quick            # in seconds; its figures are rough
    python benches/python/run.py --only rates tokens

The quotum that is installed is measured. A goal that is missed is told and fails nothing.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from tempfile import TemporaryDirectory

import quotum
from quotum import Quota, _native

import decisions
import event_loop
import rates
import redis_charges
import sqlite_charges
import threads
import tokens
from engine import leased, subjects
from measure import SEED, Comparison, Row, Scale, measured

Theme = Callable[[Scale, Quota], Iterator[Comparison]]

THEMES: dict[str, Theme] = {
    "rates": rates.comparisons,
    "decisions": decisions.comparisons,
    "tokens": tokens.comparisons,
    "asyncio": event_loop.comparisons,
    "threads": threads.comparisons,
    "sqlite": sqlite_charges.comparisons,
    "redis": redis_charges.comparisons,
}
PEERS = ["limits", "pyrate-limiter", "throttled-py", "cachetools", "redis"]

FULL = Scale(rounds=9, pass_s=0.15, subjects=10_000)
QUICK = Scale(rounds=3, pass_s=0.01, subjects=100)


def main() -> None:
    """Everything, or what is asked for."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="fewer subjects, rounds and calls")
    arguments.add_argument("--only", nargs="+", choices=THEMES, default=THEMES, metavar="THEME", help=", ".join(THEMES))
    asked = arguments.parse_args()
    scale = QUICK if asked.quick else FULL
    head(scale)
    # The collector need not look again and again at what was imported.
    gc.freeze()
    with TemporaryDirectory() as folder, leased(f"sqlite:{folder}/quota.db", subjects(scale.subjects)) as quota:
        for theme in asked.only:
            for comparison in THEMES[theme](scale, quota):
                rows, seen = measured(comparison, scale)
                for index, row in enumerate(rows):
                    print(f"{comparison.what if index == 0 else '':<36}{line(row)}", flush=True)
                if seen is not None:
                    print(f"    {seen}", flush=True)


def head(scale: Scale) -> None:
    """What is measured, and how."""
    megabytes = Path(str(_native.__file__)).stat().st_size / 1e6
    print(f"quotum {quotum.__version__}, {origin()}, an extension of {megabytes:.1f} MB")
    print(f"beside {', '.join(f'{peer} {version(peer)}' for peer in PEERS)}")
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} processors")
    print(f"seed {SEED:#x}, {scale.subjects:,} subjects, medians of {scale.rounds} rounds of {scale.pass_s} s each")
    print("microseconds a call; the empty loop is taken off; below 1x is faster than the peer")
    print(f"\n{'what':<36}{'quotum':>10}  {'peer':<34}{'peer':>10}{'ours:peer':>11}  goals", flush=True)


def origin() -> str:
    """A wheel's build is a release's; what lies beside its sources may be any."""
    try:
        is_installed = distribution("quotum").locate_file("quotum/__init__.py") == Path(str(quotum.__file__))
    except PackageNotFoundError:
        is_installed = False
    return "as installed" if is_installed else "not as installed: perhaps a slow build for debugging"


def line(row: Row) -> str:
    """One peer."""
    goals = ", ".join(f"{goal.text}: {'met' if goal.is_met else 'missed'}" for goal in row.goals)
    return f"{row.ours_us:>10.3f}  {row.peer:<34}{row.peer_us:>10.3f}{row.ratio:>10.3f}x  {goals}".rstrip()


if __name__ == "__main__":
    main()
