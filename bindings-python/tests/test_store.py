"""Stores of the host's own, in Python: the whole conformance suite, and what comes of one that is wrong."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import pathlib
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import quotum
import quotum.testing

PLANS: dict[str, Any] = {
    "default_plan": "free",
    "plans": {"free": {"quotas": {"jobs": "100/total", "tokens": "1000000/total"}, "allow_degraded": {"jobs": 2}}},
}


class InMemory:
    """A dictionary with one lock, that a transaction holds from its beginning to its end."""

    def __init__(self) -> None:
        self._entries: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[InMemory.Transaction]:
        with self._lock:
            transaction = InMemory.Transaction(self)
            yield transaction
            for key, value in transaction.changes.items():
                self._change(key, value)

    def _change(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            if self._entries.pop(key, None) is not None:
                self._keys.remove(key)
            return
        if key not in self._entries:
            bisect.insort(self._keys, key)
        self._entries[key] = value

    class Transaction:
        def __init__(self, store: InMemory) -> None:
            self._store = store
            self.changes: dict[bytes, bytes | None] = {}

        def get(self, key: bytes) -> bytes | None:
            return self._store._entries.get(key)

        def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
            keys, entries = self._store._keys, self._store._entries
            first, last = bisect.bisect_left(keys, start), bisect.bisect_left(keys, end)
            return [(key, entries[key]) for key in keys[first : min(last, first + limit)]]

        def put(self, key: bytes, value: bytes) -> None:
            self.changes[key] = value

        def delete(self, key: bytes) -> None:
            self.changes[key] = None


class InTable:
    """A table of a database that the backend has already."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        with contextlib.closing(self._connect()) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE IF NOT EXISTS quotum (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=5)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[InTable.Transaction]:
        with contextlib.closing(self._connect()) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield InTable.Transaction(connection)
                connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                if "locked" in str(error):
                    raise quotum.ConflictedError(str(error)) from error
                raise

    class Transaction:
        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def get(self, key: bytes) -> bytes | None:
            row = self._connection.execute("SELECT value FROM quotum WHERE key = ?", (key,)).fetchone()
            return row[0] if row else None

        def scan(self, start: bytes, end: bytes, limit: int) -> Iterator[tuple[bytes, bytes]]:
            query = "SELECT key, value FROM quotum WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
            return iter(self._connection.execute(query, (start, end, limit)).fetchall())

        def put(self, key: bytes, value: bytes) -> None:
            self._connection.execute("INSERT OR REPLACE INTO quotum VALUES (?, ?)", (key, value))

        def delete(self, key: bytes) -> None:
            self._connection.execute("DELETE FROM quotum WHERE key = ?", (key,))


def test_a_dictionary_with_a_lock_conforms() -> None:
    rules = quotum.testing.check_store(InMemory)
    assert len(rules) > 70
    assert "concurrent_charges_grant_exactly_the_limit" in rules


def test_a_table_of_the_backends_conforms(tmp_path: pathlib.Path) -> None:
    numbers = iter(range(1_000_000))
    quotum.testing.check_store(lambda: InTable(tmp_path / f"{next(numbers)}.db"))


def test_a_store_that_is_wrong_is_found() -> None:
    class Forgetful(InMemory):
        class Transaction(InMemory.Transaction):
            def put(self, key: bytes, value: bytes) -> None:
                if b"hold" not in key:
                    super().put(key, value)

        @contextlib.contextmanager
        def transaction(self) -> Iterator[InMemory.Transaction]:
            with self._lock:
                transaction = Forgetful.Transaction(self)
                yield transaction
                for key, value in transaction.changes.items():
                    self._change(key, value)

    with pytest.raises(AssertionError, match=r"(?s)of \d+ rules are broken:\n.*a_settled_hold_charges") as raised:
        quotum.testing.check_store(Forgetful)
    assert "a_new_store_is_empty:" not in str(raised.value)


def test_a_factory_that_raises_is_told() -> None:
    def factory() -> InMemory:
        raise ConnectionError("no database here")

    with pytest.raises(ConnectionError, match="no database here"):
        quotum.testing.check_store(factory)
    with pytest.raises(quotum.InvalidArgumentError, match="an object with a method `transaction`"):
        quotum.testing.check_store(dict)  # type: ignore[arg-type]
    with pytest.raises(quotum.InvalidArgumentError, match="argument `store`: found 7, expected the URL of a store"):
        quotum.Quota.open(7, plans=PLANS)  # type: ignore[arg-type]


def test_engines_share_a_store_of_the_hosts(tmp_path: pathlib.Path) -> None:
    one = quotum.Quota.open(InTable(tmp_path / "quota.db"), plans=PLANS)
    other = quotum.Quota.open(InTable(tmp_path / "quota.db"), plans=PLANS)
    granted: list[bool] = []

    def hammer(quota: quotum.Quota) -> None:
        granted.extend(bool(quota.consume("ana", jobs=1)) for _ in range(30))

    threads = [threading.Thread(target=hammer, args=(quota,)) for quota in (one, other) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(granted), sum(granted)) == (180, 100)
    assert one.usage("ana").quotas[0].used == 100
    one.close()
    other.close()


def test_tasks_ask_it_without_blocking_the_loop() -> None:
    async def main() -> None:
        async with quotum.AsyncQuota.open(InMemory(), plans=PLANS) as quota:
            decisions = await asyncio.gather(*(quota.consume("ana", jobs=1) for _ in range(150)))
            assert sum(map(bool, decisions)) == 100

    asyncio.run(main())


def test_a_store_that_raises_hangs_or_lies_leaves_the_host_alive() -> None:
    class Failing(InMemory):
        how = "works"

        @contextlib.contextmanager
        def transaction(self) -> Iterator[InMemory.Transaction]:
            if self.how == "raises":
                raise OSError("the network is down")
            with super().transaction() as transaction:
                if self.how == "lies":
                    transaction.get = lambda key: b"{"  # type: ignore[method-assign]
                if self.how == "answers nonsense":
                    transaction.get = lambda key: 17  # type: ignore[method-assign,assignment,return-value]
                yield transaction

    store = Failing()
    quota = quotum.Quota.open(store, plans=PLANS, breaker=False, lease="off")
    assert quota.consume("ana", jobs=1)
    for how in ["raises", "lies", "answers nonsense"]:
        store.how = how
        denied = quota.consume("ana", tokens=1)
        assert denied.reason == "store_unavailable", how
        assert denied.denied is not None and denied.denied.cause
    store.how = "raises"
    degraded = quota.consume("ana", jobs=1)
    assert degraded.allowed and degraded.degraded, "as the plan allows without the store"
    store.how = "works"
    assert quota.consume("ana", jobs=1)
    assert quota.usage("ana").quotas[0].used == 3
    quota.close()


class Hanging(InMemory):
    """One whose transactions begin when they are let."""

    def __init__(self) -> None:
        super().__init__()
        self.may_begin = threading.Event()
        self.may_begin.set()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[InMemory.Transaction]:
        self.may_begin.wait(20)
        with super().transaction() as transaction:
            yield transaction


def test_a_store_that_hangs_is_waited_for_no_longer_than_the_timeout() -> None:
    store = Hanging()
    quota = quotum.Quota.open(store, plans=PLANS, store_timeout=0.3, lease="off")
    store.may_begin.clear()
    began = time.monotonic()
    denied = quota.consume("ana", tokens=1)
    assert denied.reason == "store_unavailable"
    assert time.monotonic() - began < 10
    store.may_begin.set()
    quota.close()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system has other signals")
def test_ctrl_c_ends_a_wait_for_a_store() -> None:
    store = Hanging()
    quota = quotum.Quota.open(store, plans=PLANS, store_timeout=15, lease="off")
    store.may_begin.clear()
    began = time.monotonic()
    threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        quota.consume("ana", tokens=1)
    assert time.monotonic() - began < 10
    store.may_begin.set()
    quota.close()
