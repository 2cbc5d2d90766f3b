"""The engine for asyncio: it never blocks the loop, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import pathlib
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

import quotum

PLANS: dict[str, Any] = {
    "default_plan": "free",
    "plans": {
        "free": {
            "quotas": {"searches": "3/day", "tokens": "100/total", "views": "unlimited"},
            "features": {"excel": False},
            "rates": {"api": "1000000/minute"},
        },
        "pro": {"rank": 1, "quotas": {"tokens": "1000/total"}, "features": {"excel": True}},
    },
}

Scenario = Callable[[quotum.AsyncQuota], Coroutine[Any, Any, None]]


def run(tmp_path: pathlib.Path, scenario: Scenario, **options: Any) -> None:
    """Runs a scenario on an engine of its own."""

    async def main() -> None:
        async with quotum.AsyncQuota.open(f"sqlite:{tmp_path}/quota.db", plans=PLANS, **options) as quota:
            await scenario(quota)

    asyncio.run(main())


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_of_a_hundred_tasks_exactly_the_limit_pass(tmp_path: pathlib.Path) -> None:
    async def scenario(quota: quotum.AsyncQuota) -> None:
        decisions = await asyncio.gather(*(quota.consume("ana", searches=1) for _ in range(100)))
        assert sum(map(bool, decisions)) == 3
        assert (await quota.usage("ana")).quotas[0].used == 3

    run(tmp_path, scenario)


def test_what_is_in_memory_is_answered_at_once_and_on_no_other_thread(tmp_path: pathlib.Path) -> None:
    async def scenario(quota: quotum.AsyncQuota) -> None:
        await quota.consume("ana", views=1)
        before = threads()
        for _ in range(1000):
            answer = quota.admit("ana", rate="api", views=1)
            with pytest.raises(StopIteration) as ended:
                answer.send(None)
            assert ended.value.value.allowed
        assert threads() == before

    run(tmp_path, scenario)


async def longest_stall(work: Awaitable[Any]) -> float:
    """How long the loop did not run a timer of a millisecond at the most, while something is awaited."""
    longest = 0.0
    task = asyncio.ensure_future(work)
    while not task.done():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - began)
    await task
    return longest


def test_a_slow_store_and_a_slow_verifier_do_not_block_the_loop(tmp_path: pathlib.Path) -> None:
    def verify(token: str) -> str:
        time.sleep(1)
        return token.removeprefix("key-of-")

    async def scenario(quota: quotum.AsyncQuota) -> None:
        async def work() -> None:
            asked = [quota.admit(token=f"key-of-{number}", tokens=1) for number in range(50)]
            charged = [quota.consume("ana", tokens=1) for _ in range(500)]
            decisions = await asyncio.gather(*asked, *charged)
            assert sum(map(bool, decisions)) == 50 + 100

        stall = await longest_stall(work())
        print(f"the longest stall was {stall * 1000:.1f} ms")
        assert stall < 0.9, "as long as one call of the verifier"

    run(tmp_path, scenario, verifier=verify)


def test_one_token_is_verified_once_however_many_tasks_wait(tmp_path: pathlib.Path) -> None:
    calls = []

    async def verify(token: str) -> quotum.Identity:
        calls.append(token)
        await asyncio.sleep(0.05)
        return quotum.Identity("ana", attributes={"role": "admin"})

    async def scenario(quota: quotum.AsyncQuota) -> None:
        decisions = await asyncio.gather(*(quota.admit(token="key-of-ana", views=1) for _ in range(1000)))
        assert all(decisions)
        assert calls == ["key-of-ana"]
        identity = decisions[0].identity
        assert identity is not None and identity.attributes == {"role": "admin"}
        assert await quota.authenticate("key-of-ana") == identity

    run(tmp_path, scenario, verifier=verify)


def test_an_ordinary_function_is_called_on_another_thread(tmp_path: pathlib.Path) -> None:
    called_on: list[int] = []

    def subscriptions(subject: str) -> str | None:
        called_on.append(threading.get_ident())
        return "pro" if subject == "ana" else None

    async def scenario(quota: quotum.AsyncQuota) -> None:
        assert await quota.require("ana", "excel")
        assert not await quota.require("bob", "excel")
        assert called_on and threading.get_ident() not in called_on

    run(tmp_path, scenario, subscriptions=subscriptions)


def test_a_coroutine_function_runs_in_the_loop_that_asks(tmp_path: pathlib.Path) -> None:
    loops = []

    async def subscriptions(subject: str) -> quotum.Subscription:
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return quotum.Subscription("pro", quotas={"tokens": ["5/total"]})

    async def scenario(quota: quotum.AsyncQuota) -> None:
        assert await quota.consume("ana", tokens=5)
        assert not await quota.consume("ana", tokens=1)
        assert set(loops) == {asyncio.get_running_loop()}

    run(tmp_path, scenario, subscriptions=subscriptions)


def test_a_task_that_is_cancelled_leaves_no_hold_and_no_task_behind(tmp_path: pathlib.Path) -> None:
    entered, cancelled = asyncio.Event(), []

    async def subscriptions(subject: str) -> None:
        if subject == "ana":
            entered.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append(subject)
                raise

    async def scenario(quota: quotum.AsyncQuota) -> None:
        task = asyncio.create_task(quota.reserve("ana", tokens=50, ttl=3600))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.05)
        assert cancelled == ["ana"]
        for delay in [0, 0.0001, 0.0005, 0.001, 0.002, 0.005] * 10:
            task = asyncio.create_task(quota.reserve("bob", tokens=50, ttl=3600))
            await asyncio.sleep(delay)
            task.cancel()
            try:
                reserved = await task
            except asyncio.CancelledError:
                continue
            await reserved.release()
        # What was made and then given up is given back aside.
        for _ in range(200):
            held = (await quota.usage("bob")).quotas[1].held
            if not held:
                break
            await asyncio.sleep(0.02)
        assert held == 0
        assert (await quota.usage("bob")).quotas[1].used == 0

    run(tmp_path, scenario, subscriptions=subscriptions)


def test_an_answer_that_is_not_awaited_reserves_nothing(tmp_path: pathlib.Path) -> None:
    async def scenario(quota: quotum.AsyncQuota) -> None:
        forgotten = quota.reserve("ana", tokens=50, ttl=60)
        assert repr(forgotten) == "<Answer, to be awaited>"
        with pytest.raises(TypeError, match="await it first"):
            assert forgotten
        with pytest.warns(RuntimeWarning, match="never awaited"):
            del forgotten
        assert (await quota.usage("ana")).quotas[1].held == 0

    run(tmp_path, scenario)


def test_a_reservation_is_entered_committed_and_released(tmp_path: pathlib.Path) -> None:
    async def scenario(quota: quotum.AsyncQuota) -> None:
        async def tokens() -> tuple[int, int]:
            state = (await quota.usage("ana")).quotas[1]
            return state.used, state.held

        async with quota.reserve("ana", tokens=80, ttl=60) as reserved:
            assert await tokens() == (0, 80)
            assert (await reserved.commit(tokens=30)).consumed == {"tokens": 30}
        with pytest.raises(ZeroDivisionError):
            async with quota.reserve("ana", tokens=70, ttl=60):
                raise ZeroDivisionError
        for _ in range(200):
            if await tokens() == (30, 0):
                break
            await asyncio.sleep(0.02)
        assert await tokens() == (30, 0)
        denied = await quota.reserve("ana", tokens=71, ttl=60)
        assert not denied and denied.decision.reason == "quota_exhausted"
        with pytest.raises(quotum.DeniedError):
            await denied.commit(tokens=1)

    run(tmp_path, scenario)


def test_mistakes_are_raised_where_they_are_awaited(tmp_path: pathlib.Path) -> None:
    async def scenario(quota: quotum.AsyncQuota) -> None:
        with pytest.raises(quotum.UnknownNameError, match="the plans know: searches, tokens, views"):
            await quota.consume("ana", serches=1)
        answer = quota.consume("ana", searches=1)
        assert await answer
        with pytest.raises(RuntimeError, match="it is awaited once"):
            await answer
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.sleep(60), 0.01)
        assert await asyncio.wait_for(quota.consume("ana", searches=1), 10)

    run(tmp_path, scenario)


def test_a_function_that_raises_is_an_error_of_its_kind_and_the_engine_works_on(tmp_path: pathlib.Path) -> None:
    failing = True

    async def verify(token: str) -> str | None:
        if failing:
            raise ConnectionError("ldap-3 is down")
        return "ana"

    async def scenario(quota: quotum.AsyncQuota) -> None:
        nonlocal failing
        with pytest.raises(quotum.VerifyError, match="ConnectionError: ldap-3 is down") as raised:
            await quota.authenticate("key-of-ana")
        assert raised.value.retry == "safe"
        failing = False
        assert (await quota.admit(token="key-of-ana", views=1)).subject == "ana"

    run(tmp_path, scenario, verifier=verify)


def test_one_engine_serves_tasks_and_threads(tmp_path: pathlib.Path) -> None:
    async def scenario(quota: quotum.AsyncQuota) -> None:
        blocking = quota.to_blocking()
        in_threads = [asyncio.to_thread(lambda: blocking.consume("ana", tokens=1)) for _ in range(100)]
        decisions = await asyncio.gather(*in_threads, *(quota.consume("ana", tokens=1) for _ in range(100)))
        assert sum(map(bool, decisions)) == 100
        assert (await blocking.to_async().usage("ana")).quotas[1].used == 100

    run(tmp_path, scenario)


def test_several_loops_in_several_threads_share_an_engine(tmp_path: pathlib.Path) -> None:
    quota = quotum.Quota.open(f"sqlite:{tmp_path}/quota.db", plans=PLANS)
    granted: list[bool] = []

    async def consume() -> None:
        decisions = await asyncio.gather(*(quota.to_async().consume("ana", tokens=1) for _ in range(50)))
        granted.extend(map(bool, decisions))

    runs = [threading.Thread(target=lambda: asyncio.run(consume())) for _ in range(4)]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    assert (len(granted), sum(granted)) == (200, 100)
    quota.close()


def test_a_closed_engine_says_so(tmp_path: pathlib.Path) -> None:
    async def scenario(quota: quotum.AsyncQuota) -> None:
        await quota.close()
        with pytest.raises(quotum.ClosedError, match="open another one"):
            await quota.consume("ana", searches=1)
        assert repr(quota) == "<AsyncQuota, closed>"

    run(tmp_path, scenario)


def test_an_answer_that_two_tasks_await_is_one_tasks(tmp_path: pathlib.Path) -> None:
    async def verify(token: str) -> str:
        await asyncio.sleep(0.05)
        return "ana"

    async def scenario(quota: quotum.AsyncQuota) -> None:
        answer = quota.authenticate("key")

        async def wait() -> Any:
            return await answer

        both = await asyncio.wait_for(asyncio.gather(wait(), wait(), return_exceptions=True), 10)
        assert both[0].subject == "ana"
        assert isinstance(both[1], RuntimeError) and "being awaited already" in str(both[1])

    run(tmp_path, scenario, verifier=verify)


def test_a_decision_that_is_not_awaited_is_warned_of(tmp_path: pathlib.Path) -> None:
    async def scenario(quota: quotum.AsyncQuota) -> None:
        await quota.consume("ana", views=1)
        with pytest.warns(RuntimeWarning, match="was not looked at"):
            quota.admit("ana", rate="api")

    run(tmp_path, scenario)


def test_an_engine_that_is_dropped_does_not_block_the_loop(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        quota = await quotum.AsyncQuota.open(
            f"sqlite:{tmp_path}/quota.db", plans=PLANS, on_event=lambda event: time.sleep(1)
        )
        await quota.acting_as("somebody").consume("ana", searches=1)
        engines = [quota]
        del quota

        async def drop() -> None:
            engines.clear()

        assert await longest_stall(drop()) < 0.9, "as long as the listener takes"

    asyncio.run(main())


def test_uvloop_drives_it_too(tmp_path: pathlib.Path) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async with quotum.AsyncQuota.open(f"sqlite:{tmp_path}/quota.db", plans=PLANS) as quota:
            decisions = await asyncio.gather(*(quota.consume("ana", tokens=1) for _ in range(150)))
            assert sum(map(bool, decisions)) == 100
            async with quota.reserve("bob", tokens=10, ttl=60) as reserved:
                assert (await reserved.commit(tokens=3)).consumed == {"tokens": 3}

    uvloop.run(main())


def test_plans_are_put_from_a_file_or_a_dictionary(tmp_path: pathlib.Path) -> None:
    async def scenario(quota: quotum.AsyncQuota) -> None:
        file = tmp_path / "plans.toml"
        file.write_text("default_plan = 'free'\n[plans.free]\nquotas = { searches = '9/day' }")
        assert await quota.set_plans(file) == 1
        assert (await quota.usage("ana")).quotas[0].limit == 9
        assert await quota.set_plans(PLANS) == 2
        file.write_text("default_plan = 'gold'")
        with pytest.raises(quotum.PlansError, match="plans.toml:1: plans: found nothing"):
            await quota.set_plans(file)
        assert (await quota.usage("ana")).quotas[0].limit == 3

    run(tmp_path, scenario)
