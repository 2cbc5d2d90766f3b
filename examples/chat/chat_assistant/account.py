"""Accounts: what a user has left, what was asked and denied day by day, and the way to a dearer tier."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import BaseModel
from quotum import AsyncQuota, Identity, Plans, QuotaState, Usage
from quotum.fastapi import Quotas

from .tiers import AllPlans


async def engine(request: Request) -> AsyncQuota:
    quota: AsyncQuota = request.app.state.quota
    return quota


Engine = Annotated[AsyncQuota, Depends(engine)]


def warnings(states: Iterable[QuotaState]) -> list[str]:
    """The quotas of which 80 % are used or set aside, such as "messages/day"."""
    return [
        f"{state.metric}/{state.period}"
        for state in states
        if state.limit is not None and state.remaining is not None and state.remaining * 5 <= state.limit
    ]


def quota_info(usage: Usage, plans: Plans) -> dict[str, Any]:
    """What a user has, has used and has left."""
    quotas: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for state in usage.quotas:
        shown = ("limit", "used", "remaining", "resets_at")
        quotas[state.metric][state.period or "unlimited"] = {name: state.to_dict()[name] for name in shown}
    is_exceeded = any(state.remaining == 0 for state in usage.quotas)
    rank = plans.get(usage.plan).rank
    return {
        "tier": usage.plan,
        "quotas": quotas,
        "can_send_message": not is_exceeded and usage.refused is None,
        "is_quota_exceeded": is_exceeded,
        "needs_upgrade": is_exceeded and any(plan.visible and plan.rank > rank for plan in plans.plans),
        "warning": warnings(usage.quotas),
    }


class Upgrade(BaseModel):
    """Which tier a user wants."""

    tier: str


def accounts(quotas: Quotas) -> APIRouter:
    router = APIRouter(tags=["account"])
    authenticate = quotas.authenticate

    @router.get("/quota")
    async def quota(
        caller: Annotated[Identity, Depends(authenticate)], quota: Engine, plans: AllPlans
    ) -> dict[str, Any]:
        """What is left: for the banner, and for the button that sends."""
        return quota_info(await quota.usage(caller.subject), plans)

    @router.post("/upgrade")
    async def upgrade(
        upgrade: Upgrade, caller: Annotated[Identity, Depends(authenticate)], quota: Engine, plans: AllPlans
    ) -> dict[str, Any]:
        """Put the caller on a dearer tier, at once. That it is paid for is to be seen to before."""
        rank = plans.get((await quota.usage(caller.subject)).plan).rank
        if upgrade.tier not in [plan.id for plan in plans.plans if plan.visible and plan.rank > rank]:
            raise HTTPException(409, "there is no such tier above yours")
        await quota.acting_as(caller.subject).subscribe(caller.subject, upgrade.tier)
        return quota_info(await quota.usage(caller.subject), plans)

    @router.get("/usage/stats")
    async def stats(
        caller: Annotated[Identity, Depends(authenticate)],
        quota: Engine,
        days: Annotated[int, Query(ge=1, le=90)] = 30,
    ) -> dict[str, Any]:
        """How often what has happened on each day, the latest first: what the latest thousand events tell of it."""
        since = quota.now - timedelta(days=days)
        by_day: dict[date, Counter[str]] = defaultdict(Counter)
        for event in await quota.events(subject=caller.subject, newest_first=True, limit=1_000):
            # To find out who asks is a success too, but no message.
            is_message = event.metric is not None or event.name != "quota_check_success"
            if event.at >= since and is_message:
                by_day[event.at.date()][event.name] += 1
        return {"days": [{"date": day, "events": events} for day, events in by_day.items()]}

    return router
