"""Administration: the plan of a user, enforcement, and who changed what."""

import secrets
from datetime import timedelta
from typing import Annotated, Any, Literal

import quotum
from fastapi import APIRouter, Depends, Header, HTTPException, Request
from pydantic import BaseModel, Field
from quotum import AsyncQuota


async def acting_quota(request: Request, x_admin_token: Annotated[str, Header()] = "") -> AsyncQuota:
    """The engine, for changes of which the audit trail says that the administrator has made them."""
    expected: str | None = request.app.state.settings.admin_token
    if expected is None or not secrets.compare_digest(x_admin_token.encode(), expected.encode()):
        raise HTTPException(403, "this is for administrators")
    quota: AsyncQuota = request.app.state.quota
    return quota.acting_as("admin")


Acting = Annotated[AsyncQuota, Depends(acting_quota)]
router = APIRouter(prefix="/api/admin", tags=["administration"])


class Sale(BaseModel):
    """A plan that was paid for so many days."""

    plan: str
    days: int = Field(30, ge=1, le=366)


class Switch(BaseModel):
    """How strictly quotas are enforced, of everything or of one metric."""

    mode: Literal["enforce", "shadow", "off"]
    metric: str | None = None


@router.post("/users/{user}/plan")
async def change_plan(user: str, sale: Sale, quota: Acting) -> dict[str, Any]:
    """Put a user on a plan, at once. What was used of the current month stays used."""
    before = await quota.subscription(user)
    # Months are counted from the first purchase: a dearer plan in the middle of one does not start another.
    anchor = (before and before.anchor) or quota.now
    expires_at = quota.now + timedelta(days=sale.days)
    try:
        await quota.subscribe(user, sale.plan, anchor=anchor, expires_at=expires_at)
    except quotum.UnknownNameError as error:
        raise HTTPException(404, str(error)) from error
    return (await quota.usage(user)).to_dict()


@router.post("/enforcement")
async def set_enforcement(switch: Switch, quota: Acting) -> Switch:
    """Switch enforcement: at once here, within a second in other processes, until it is switched again."""
    await quota.set_enforcement(switch.mode, metric=switch.metric)
    return switch


@router.get("/audit")
async def audit(quota: Acting, user: str | None = None, after: int = 0) -> list[dict[str, Any]]:
    """Who changed what, in pages: `after` is the sequence of the last change of the page before."""
    events = await quota.events(subject=user, after=after, changes_only=True)
    return [{"sequence": event.sequence, **event.to_dict()} for event in events]
