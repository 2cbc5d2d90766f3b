"""What mypy --strict and pyright must refuse: each line marked `# refused`, and no other.

Where only one of them can, the mark says which.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

import quotum
import quotum.http


def arguments(quota: quotum.Quota) -> None:
    quota.consume(1)  # refused
    quota.consume("ana", searches="1")  # refused
    quota.consume("ana", searches=0.5)  # refused
    quota.consume("ana", {"searches": "1"})  # refused
    quota.consume("ana", costs={"searches": 1})  # refused
    quota.consume(subject="ana", searches=1)  # refused
    quota.check("ana", searches=1, idempotency_key="key")  # refused
    quota.reserve("ana", tokens=1)  # refused
    quota.reserve("ana", tokens=1, ttl="1m")  # refused
    quota.admit("ana", rate_key=b"203.0.113.7")  # refused
    quota.admit("ana", features=[1])  # refused
    quota.require("ana", "history_days", 1.5)  # refused
    quota.rate("login")  # refused
    quota.usage()  # refused


def words(quota: quotum.Quota) -> None:
    quota.subscribe("ana", "pro", status="cancelled")  # refused
    quota.subscribe("ana", "pro", states="active")  # refused
    quota.subscribers(status="gone")  # refused
    quota.set_enforcement("disabled")  # refused
    quota.events(name="quota_exceeded")  # refused
    quotum.Subscription("pro", status="expired")  # refused
    quotum.http.Mapping(fields="all")  # refused
    quotum.http.Mapping(statuses={"quota_exceeded": 402})  # refused
    if quota.check("ana", searches=1).reason == "exhausted":  # refused
        print("never")


def options() -> None:
    quotum.Quota.open("memory:", plan="plans.toml")  # refused
    quotum.Quota.open("memory:", "plans.toml")  # refused
    quotum.Quota.open("memory:", plans=["plans.toml"])  # refused
    quotum.Quota.open("memory:", store_timeout="5s")  # refused
    quotum.Quota.open("memory:", breaker={"failure": 3})  # refused
    quotum.Quota.open("memory:", lease="always")  # refused
    quotum.Quota.open("memory:", log_events="everything")  # refused
    quotum.Quota.open("memory:", clock=datetime.now())  # refused
    quotum.Quota.open("memory:", pepper="secret")  # refused
    quotum.Quota.open("memory:", verifier=verified)  # refused
    quotum.Quota.open("memory:", on_event=heard)  # refused
    quotum.Quota("memory:")  # refused


async def verified(token: str) -> str:
    return token


async def heard(event: quotum.Event) -> None:
    print(event)


def results(decision: quotum.Decision, usage: quotum.Usage, quota: quotum.Quota) -> None:
    decision.allowed = True  # refused
    decision.denied.reason  # refused
    decision.remaining  # refused
    usage.quotas[0].remaining + 1  # refused
    {decision}  # refused by pyright
    quota.feature("ana", "history_days") + 1  # refused
    quota.reserve("ana", tokens=1, ttl=60).commit(tokens=1).consumed("tokens")  # refused


async def forgotten(quota: quotum.AsyncQuota) -> None:
    quota.consume("ana", searches=1)  # refused
    quota.consume("ana", searches=1).allowed  # refused
    if quota.consume("ana", searches=1):  # refused by pyright
        print("always")
    list(quota.plans())  # refused
    quota.usage("ana").quotas  # refused
    with quota.reserve("ana", tokens=1, ttl=60):  # refused
        pass
    async with quota.consume("ana", searches=1):  # refused
        pass
    reserved = await quota.reserve("ana", tokens=1, ttl=60)
    reserved.commit(tokens=1).consumed  # refused
    quotum.AsyncQuota.open("memory:").consume  # refused
    asyncio.run(quota.usage)  # refused


def blocking_is_not_awaited(quota: quotum.Quota) -> None:
    async def main() -> None:
        await quota.consume("ana", searches=1)  # refused
        async with quota:  # refused
            pass

    asyncio.run(main())
