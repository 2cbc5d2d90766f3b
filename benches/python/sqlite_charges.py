"""Exact charges: every one is on the disk when it is answered, beside the least that could do the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

from quotum import Quota

from engine import PLANS, subjects
from measure import Asks, Comparison, Contender, Scale, UnexpectedError, uniform
from threads import shared_out

CALLERS = 8
SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE counter (subject TEXT, metric TEXT, period TEXT, start_s INTEGER, used INTEGER,
    PRIMARY KEY (subject, metric, period, start_s)) WITHOUT ROWID;
"""
CHARGE = """
INSERT INTO counter VALUES (?1, 'calls', 'month', 1772323200, 1)
    ON CONFLICT DO UPDATE SET used = used + 1 WHERE used + 1 <= 1000000000
"""


def comparisons(scale: Scale, _: Quota) -> Iterator[Comparison]:
    """One caller and many, on files with the same settings."""
    ids = subjects(scale.subjects)
    asks = Asks(ids, uniform(len(ids)))
    with TemporaryDirectory() as folder, Quota.open(f"sqlite:{folder}/quota.db", plans=PLANS, lease="off") as quota:
        ours, peer = charging(quota, asks), raw(Path(folder, "raw.db"), asks)
        yield Comparison("exact charge on SQLite, one caller", ours, [peer])
        many = [Contender(one.name, shared_out(one.loop, CALLERS), asks) for one in (ours, peer)]
        yield Comparison(f"exact charge on SQLite, {CALLERS} threads", many[0], many[1:])


def charging(quota: Quota, asks: Asks[str]) -> Contender[str]:
    """A quota of a month."""

    def loop(ids: Sequence[str]) -> None:
        consume = quota.consume
        for subject in ids:
            if not consume(subject, calls=1):
                raise UnexpectedError(subject)

    return Contender("quotum", loop, asks)


def raw(file: Path, asks: Asks[str]) -> Contender[str]:
    """A conditional upsert, a transaction each. Threads share a connection: with one each they get less done."""
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    connection.executescript(SCHEMA)
    lock = Lock()

    def loop(ids: Sequence[str]) -> None:
        execute = connection.execute
        for subject in ids:
            with lock:
                charged = execute(CHARGE, (subject,)).rowcount
            if charged != 1:
                raise UnexpectedError(subject)

    return Contender("sqlite3, conditional upsert", loop, asks, ratio_max=1 / 0.9)
