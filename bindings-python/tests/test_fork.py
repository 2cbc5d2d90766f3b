"""Processes that fork: a child goes on with an engine of its own and disturbs nobody."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import quotum

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

PLANS: dict[str, Any] = {
    "default_plan": "free",
    "plans": {"free": {"quotas": {"jobs": "100/total", "tokens": "1000000/total"}, "rates": {"api": "1000000/minute"}}},
}
FORKS = 100
# A child that is locked for ever is killed, and the test fails.
CHILD_ENDS_WITHIN_S = 20


def open_at(tmp_path: pathlib.Path, **options: Any) -> quotum.Quota:
    return quotum.Quota.open(f"sqlite:{tmp_path}/quota.db", plans=PLANS, **options)


def in_child(act: Callable[[], bool]) -> int:
    """Forks a child that does something; its process id."""
    child = os.fork()
    if child == 0:
        ended = 1
        try:
            signal.alarm(CHILD_ENDS_WITHIN_S)
            ended = 0 if act() else 3
        finally:
            os._exit(ended)
    return child


def ended(child: int) -> str:
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"killed by signal {os.WTERMSIG(status)}"
    return {0: "done", 3: "denied"}.get(os.WEXITSTATUS(status), "failed")


def test_children_of_a_process_whose_threads_are_busy_go_on(tmp_path: pathlib.Path) -> None:
    quota = open_at(tmp_path, lease="off")
    stop = threading.Event()
    asked = [0] * 4

    def hammer(number: int) -> None:
        while not stop.is_set():
            quota.consume(f"busy-{number}", tokens=1)
            quota.admit(f"busy-{number}", rate="api")
            asked[number] += 1

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        ends = [ended(in_child(lambda: bool(quota.consume("ana", jobs=1)))) for _ in range(FORKS)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert ends == ["done"] * FORKS
    assert min(asked) > FORKS / 10, f"the parent's threads went on: {asked}"
    jobs = next(state for state in quota.usage("ana").quotas if state.metric == "jobs")
    assert jobs.used == FORKS
    assert not quota.consume("ana", jobs=1)
    quota.close()


def test_a_child_has_its_own_event_loop_and_listener(tmp_path: pathlib.Path) -> None:
    heard: list[str] = []
    quota = open_at(tmp_path, on_event=lambda event: heard.append(event.name))
    asyncio.run(consume_some(quota))

    def child() -> bool:
        heard.clear()
        asyncio.run(consume_some(quota))
        until = time.monotonic() + 10
        while "quota_check_success" not in heard and time.monotonic() < until:
            time.sleep(0.01)
        return "quota_check_success" in heard

    assert ended(in_child(child)) == "done"
    assert quota.usage("ana").quotas[0].used == 20
    quota.close()


async def consume_some(quota: quotum.Quota) -> None:
    decisions = await asyncio.gather(*(quota.to_async().consume("ana", jobs=1) for _ in range(10)))
    assert all(decisions)


def test_a_child_that_closes_its_engine_leaves_its_parents(tmp_path: pathlib.Path) -> None:
    quota = open_at(tmp_path)
    reserved = quota.reserve("ana", jobs=40, ttl=60)

    def child() -> bool:
        allowed = quota.consume("ana", jobs=10)
        quota.close()
        return bool(allowed)

    assert ended(in_child(child)) == "done"
    assert reserved.commit(jobs=30).consumed == {"jobs": 30}
    assert quota.usage("ana").quotas[0].used == 40
    quota.close()


def test_a_fork_does_not_wait_for_a_function_of_the_hosts(tmp_path: pathlib.Path) -> None:
    verifying, may_end = threading.Event(), threading.Event()

    def verify(token: str) -> str:
        verifying.set()
        may_end.wait(20)
        return "ana"

    quota = open_at(tmp_path, verifier=verify)
    thread = threading.Thread(target=quota.authenticate, args=("key",))
    thread.start()
    assert verifying.wait(10)
    began = time.monotonic()
    assert ended(in_child(lambda: bool(quota.consume("ana", jobs=1)))) == "done"
    assert time.monotonic() - began < 8, "as long as a fork waits for the core at the most"
    may_end.set()
    thread.join()
    quota.close()


def test_multiprocessing_inherits_an_engine(tmp_path: pathlib.Path) -> None:
    global shared
    shared = open_at(tmp_path)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        granted = pool.map(consume_shared, range(150))
    assert sum(granted) == 100
    assert shared.usage("ana").quotas[0].used == 100
    shared.close()


shared: quotum.Quota


def consume_shared(_: int) -> bool:
    return bool(shared.consume("ana", jobs=1))
