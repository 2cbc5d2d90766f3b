"""Memory stays flat, however often the engine is asked."""

from __future__ import annotations

import asyncio
import gc
import os
import pathlib
from itertools import repeat
from typing import Any

import pytest

import quotum

PLANS: dict[str, Any] = {
    "default_plan": "free",
    "plans": {
        "free": {
            "quotas": {"searches": "1000000000/total", "jobs": "1/total"},
            "features": {"excel": True},
            "rates": {"api": "1000000000/minute burst 1000000"},
        }
    },
}
CALLS = 10_000_000
# What the allocator may keep for itself. A leak of one byte a call would be more.
GROWTH_BYTES_MAX = 8_000_000


def resident_bytes() -> int:
    gc.collect()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


pytestmark = pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="memory is read from /proc")


def test_ten_million_calls_leave_nothing_behind(tmp_path: pathlib.Path) -> None:
    with quotum.Quota.open(f"sqlite:{tmp_path}/quota.db?synchronous=normal", plans=PLANS) as quota:
        subject = quota.subject("ana")
        quota.consume("ana", jobs=1)

        def ask(times: int) -> None:
            for _ in repeat(None, times):
                quota.consume("ana", searches=1)
                subject.consume(searches=1)
                quota.admit("ana", rate="api", features=["excel"])
                quota.consume("ana", jobs=1).to_dict
                quota.require("ana", "excel").quotas

        ask(50_000)
        before = resident_bytes()
        ask(CALLS // 5)
        grown = resident_bytes() - before
        print(f"{CALLS} calls have grown the process by {grown} bytes")
        assert grown < GROWTH_BYTES_MAX
        used = {state.metric: state.used for state in quota.usage("ana").quotas}
        assert used["searches"] == 2 * (50_000 + CALLS // 5)


def test_a_million_awaited_answers_leave_nothing_behind(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        async with quotum.AsyncQuota.open(f"sqlite:{tmp_path}/quota.db?synchronous=normal", plans=PLANS) as quota:

            async def ask(times: int) -> None:
                for _ in repeat(None, times):
                    await quota.consume("ana", searches=1)
                for _ in repeat(None, times // 100):
                    await quota.usage("ana")
                    async with quota.reserve("ana", searches=1, ttl=60) as reserved:
                        await reserved.commit()

            await ask(20_000)
            before = resident_bytes()
            await ask(1_000_000)
            grown = resident_bytes() - before
            print(f"a million awaited answers have grown the process by {grown} bytes")
            assert grown < GROWTH_BYTES_MAX

    asyncio.run(main())


def test_exceptions_in_functions_of_the_hosts_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: None)

    def fails(*_: object) -> Any:
        raise ValueError("always")

    options: dict[str, Any] = {"subscriptions": fails, "verifier": fails, "on_event": fails, "breaker": False}
    with quotum.Quota.open("memory:", plans=PLANS, refusal_ttl=0, subscription_ttl=0, **options) as quota:

        def ask(times: int) -> None:
            for number in range(times):
                quota.consume(f"ana-{number % 10}", searches=1)
                with pytest.raises(quotum.VerifyError):
                    quota.authenticate("key")

        ask(5_000)
        before = resident_bytes()
        ask(50_000)
        assert resident_bytes() - before < GROWTH_BYTES_MAX
