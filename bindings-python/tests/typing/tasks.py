"""What an asyncio backend writes: mypy --strict and pyright accept all of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable

import quotum
from typing_extensions import assert_type


async def verified(token: str) -> quotum.Identity | None:
    await asyncio.sleep(0)
    return quotum.Identity(token) if token else None


async def subscribed(subject: str) -> quotum.Subscription | str | None:
    await asyncio.sleep(0)
    return quotum.Subscription("pro", account="team") if subject == "ana" else "free"


async def planned() -> quotum.Plans:
    return await asyncio.to_thread(quotum.Plans.from_file, "plans.toml")


async def opened() -> quotum.AsyncQuota:
    return await quotum.AsyncQuota.open("memory:", plans=planned, subscriptions=subscribed, verifier=verified)


async def opened_with_ordinary_functions() -> quotum.AsyncQuota:
    return await quotum.AsyncQuota.open("memory:", plans="plans.toml", verifier=lambda token: token)


@contextlib.asynccontextmanager
async def lifespan() -> AsyncGenerator[quotum.AsyncQuota]:
    async with quotum.AsyncQuota.open("sqlite:quota.db", plans="plans.toml") as quota:
        assert_type(quota, quotum.AsyncQuota)
        yield quota


async def search(quota: quotum.AsyncQuota, user: str) -> bool:
    asked = quota.consume(user, searches=1)
    assert_type(await asked, quotum.Decision)
    decision = await asked
    assert_type(decision, quotum.Decision)
    if not decision:
        print(decision.reason, decision.upgrade_to)
    return decision.allowed


async def chat(quota: quotum.AsyncQuota, user: str, words: AsyncIterator[str]) -> AsyncIterator[str]:
    async with quota.reserve(user, tokens=900, ttl=120) as reserved:
        assert_type(reserved, quotum.AsyncReservation)
        count = 0
        async for word in words:
            count += 1
            yield word
        settlement = await reserved.commit(tokens=count)
        assert_type(settlement, quotum.Settlement)


async def entered_when_it_is_there(quota: quotum.AsyncQuota) -> None:
    reserved = await quota.reserve("ana", tokens=900, ttl=120)
    if reserved:
        async with reserved as same:
            assert_type(same, quotum.AsyncReservation)


async def entered_on_a_stack(stack: contextlib.AsyncExitStack) -> quotum.AsyncQuota:
    quota = await stack.enter_async_context(quotum.AsyncQuota.open("memory:", plans="plans.toml"))
    assert_type(quota, quotum.AsyncQuota)
    reserved = await stack.enter_async_context(quota.reserve("ana", tokens=1, ttl=60))
    assert_type(reserved, quotum.AsyncReservation)
    return quota


async def together(quota: quotum.AsyncQuota) -> None:
    usage, plans = await asyncio.gather(quota.usage("ana"), quota.plans())
    assert_type(usage, quotum.Usage)
    assert_type(plans, list[quotum.Plan])
    assert_type(await asyncio.create_task(quota.check("ana", searches=1)), quotum.Decision)
    assert_type(await asyncio.wait_for(quota.authenticate("key"), timeout=1), quotum.Identity | None)


async def handles(quota: quotum.AsyncQuota) -> bool:
    ana = quota.subject("ana")
    return (await ana.require("excel")).allowed and bool(await ana.consume({"searches": 1}))


async def administration(quota: quotum.AsyncQuota) -> None:
    await quota.acting_as("support").subscribe("ana", "pro", status="active")
    await quota.set_enforcement("off")
    print(quota.now, quota.metrics(), quota.events_dropped)
    await quota.close()


def awaited_by_somebody_else(quota: quotum.AsyncQuota) -> Awaitable[quotum.Decision]:
    return quota.consume("ana", searches=1)


async def on_other_threads(quota: quotum.AsyncQuota) -> quotum.Usage:
    blocking = quota.to_blocking()
    assert_type(blocking, quotum.Quota)
    assert_type(blocking.to_async(), quotum.AsyncQuota)
    return await asyncio.to_thread(blocking.usage, "ana")
