"""Stores of one's own: what they are, and how to find out that they are right.

A store is an ordered map of bytes with transactions, such as a database that a backend has already. Everything else, such
as counters, holds, leases and idempotency keys, is kept in it by the engine:

    class MyStore:
        @contextmanager
        def transaction(self):
            with my_database.begin_serializable() as transaction:
                yield MyTransaction(transaction)    # with get, scan, put and delete

    quotum.testing.check_store(MyStore)
    quota = quotum.Quota.open(MyStore(), plans="plans.toml")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from ._native import check_store as _outcomes

__all__ = ["Store", "Transaction", "check_store"]


class Transaction(Protocol):
    """A transaction: it has read what was so, and writes what comes to be, at one moment.

    All that a step reads it reads before it writes, and it writes each key once, in the order of the keys. Keys have less
    than 4 KiB, most values a few hundred bytes.
    """

    def get(self, key: bytes, /) -> bytes | None:
        """The value of a key; None where it has none."""

    def scan(self, start: bytes, end: bytes, limit: int, /) -> Iterable[tuple[bytes, bytes]]:
        """The first entries, at most `limit`, from `start` on and before `end`, in the order of their keys' bytes."""

    def put(self, key: bytes, value: bytes, /) -> object:
        """Give a key this value, in place of any it had."""

    def delete(self, key: bytes, /) -> object:
        """Remove a key, if it is there."""


class Store(Protocol):
    """An ordered map of bytes with transactions. Any thread may ask it, and several at once."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Begin a transaction, which is committed at the end of its block, and undone by an exception.

        It is serializable against all others, those of other processes too. Where another was faster, or waiting for it
        took too long, it raises quotum.ConflictedError, and the step is made again. Any other exception is a store that
        failed: the requests are answered as plans say for that.
        """


def check_store(factory: Callable[[], Store]) -> list[str]:
    """Run the conformance suite: every rule that a store keeps, each on a new and empty one that `factory` returns.

    Returns the rules. Raises AssertionError with those that are broken, and what was found. It is one process's: a store
    that several share has to be tried with several too.
    """
    outcomes = _outcomes(factory)
    broken = [f"{rule}: {found}" for rule, found in outcomes if found is not None]
    if broken:
        rules = "\n".join(broken)
        raise AssertionError(f"{len(broken)} of {len(outcomes)} rules are broken:\n{rules}")
    return list(dict.fromkeys(rule for rule, _ in outcomes))
