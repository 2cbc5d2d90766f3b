"""What a synchronous backend writes: mypy --strict and pyright accept all of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

import quotum
from typing_extensions import assert_type

PLANS = {"default_plan": "free", "plans": {"free": {"quotas": {"searches": "50/month"}}}}


def engine() -> quotum.Quota:
    return quotum.Quota.open("sqlite:quota.db", plans="plans.toml")


def engine_with_every_option(clock: quotum.ManualClock) -> quotum.Quota:
    return quotum.Quota.open(
        "memory:",
        plans=PLANS,
        subscriptions=lambda subject: "pro" if subject == "ana" else None,
        verifier=lambda token: quotum.Identity("ana", attributes={"role": "admin"}),
        clock=clock,
        store_timeout=timedelta(seconds=2),
        breaker={"failures": 3, "cool_down": 0.5, "cool_down_max": timedelta(minutes=1)},
        lease={"max": 50_000, "ttl_s": 10},
        enforcement="shadow",
        catalog_ttl=60,
        subscription_ttl=0,
        feed_interval=1.5,
        idempotency_ttl=timedelta(days=2),
        records_max=1_000,
        rates_max=1_000,
        verifications_max=10,
        tokens_max=1_000,
        token_ttl=30,
        refusals_max=100,
        refusal_ttl=5,
        tokens_in_store=True,
        pepper=b"sixteen bytes or more",
        on_event=heard.append,
        log_events="incidents",
    )


heard: list[quotum.Event] = []


def plans_of_every_kind() -> None:
    for plans in (Path("plans.toml"), "plans.json", PLANS, quotum.Plans.from_dict(PLANS)):
        quotum.Quota.open("memory:", plans=plans, breaker=False, lease="off").close()
    quotum.Quota.open("memory:", plans=lambda: Path("plans.toml"), verifier=subject_of).close()
    quotum.Quota.open("memory:", plans=None, store_timeout=None).close()


def subject_of(token: str) -> str | None:
    return token.removeprefix("key-") or None


def search(quota: quotum.Quota, user: str) -> int:
    decision = quota.consume(user, searches=1, idempotency_key="order-1")
    assert_type(decision, quotum.Decision)
    if decision:
        return 200
    denial = decision.denied
    if denial is None:
        return 500
    if denial.reason == "quota_exhausted" and denial.resets_at is not None:
        print(denial.upgrade_to, denial.resets_at - datetime.now(timezone.utc))
    wait_ms: int | None = denial.retry_after_ms
    return 429 if wait_ms is None else wait_ms


def chat(quota: quotum.Quota, user: str, words: Iterator[str]) -> Iterator[str]:
    with quota.reserve(user, {"tokens-out": 900}, ttl=timedelta(minutes=2), messages=1) as reserved:
        assert_type(reserved, quotum.Reservation)
        reserved.decision.raise_for_denied()
        count = 0
        for word in words:
            count += 1
            yield word
        settlement = reserved.commit({"tokens-out": count})
        assert_type(settlement.consumed["tokens-out"], int)


def admit(quota: quotum.Quota, token: str, address: str) -> quotum.Decision:
    quota.rate("login", ip_address(address))
    quota.admit("ana", {"searches": 1}, rate="api", features=["excel", ("history_days", 90)])
    quota.admit(rate="login", rate_key=ip_address(address), rate_cost=2)
    return quota.admit(token=token, rate="api", features={"excel": True, "priority": None}, searches=1)


def account_page(quota: quotum.Quota, user: str) -> dict[str, object]:
    usage = quota.usage(user)
    assert_type(usage.status, Literal["trialing", "active", "past_due", "paused", "canceled"] | None)
    for state in usage.quotas:
        if state.warning and state.limit is not None and state.remaining is not None:
            print(f"{state.metric}: {state.remaining} of {state.limit} until {state.resets_at}")
    return usage.to_dict()


def administration(quota: quotum.Quota) -> None:
    support = quota.acting_as("support@example.com")
    support.subscribe("ana", "pro", status="trialing", trial_ends_at=datetime.now(timezone.utc), account="team")
    support.subscribe("bia", quotum.Subscription("pro", quotas={"searches": "unlimited"}, features={"excel": True}))
    support.set_overrides("ana", quotas={"searches": ["5/day", "100/month"]}, features={"history_days": 90})
    support.set_enforcement("shadow", metric="searches")
    assert_type(support.grant("ana", searches=5), list[quotum.QuotaState])
    assert_type(support.set_plans("plans.toml"), int)
    names: set[str] = {event.name for event in quota.events(name="quota_exhausted", newest_first=True)}
    listed = [subscriber.subscription.plan for subscriber in quota.subscribers(status="past_due", limit=10)]
    print(names, listed, {count.status: count.subjects for count in quota.census()})
    stats = quota.token_stats
    if stats is not None:
        print(stats["hits"] / (stats["hits"] + stats["misses"]))


def features(quota: quotum.Quota) -> bool:
    assert_type(quota.feature("ana", "history_days"), bool | int | str | None)
    ana = quota.subject("ana")
    assert_type(ana, quotum.Subject)
    return bool(ana.require("excel")) and ana.require("history_days", 90).allowed and bool(ana.consume(searches=1))


def time_passes() -> datetime:
    clock = quotum.ManualClock(datetime(2026, 1, 31, tzinfo=timezone.utc))
    clock.advance(timedelta(days=1))
    clock.advance(60)
    return clock.now


def failures(quota: quotum.Quota) -> str:
    try:
        quota.consume("ana", searches=1).raise_for_denied()
    except quotum.DeniedError as denied:
        return denied.decision.reason or "denied"
    except quotum.UnknownNameError as unknown:
        return ", ".join(unknown.known)
    except quotum.StoreError as error:
        assert_type(error.retry, Literal["never", "safe", "outcome_unknown"])
        return error.retry
    except quotum.QuotumError as error:
        return str(error)
    return "allowed"
