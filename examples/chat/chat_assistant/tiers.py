"""Tiers: the plans, as the price list shows them in English and French."""

from typing import Annotated, Any

import quotum
from fastapi import APIRouter, Depends, HTTPException, Request
from quotum import Plan, Plans

router = APIRouter(prefix="/tiers", tags=["tiers"])


async def plans_of(request: Request) -> Plans:
    plans: Plans = request.app.state.plans
    return plans


AllPlans = Annotated[Plans, Depends(plans_of)]


def tier(plan: Plan) -> dict[str, Any]:
    return {
        "id": plan.id,
        "names": {"en": plan.name, "fr": plan.names.get("fr", plan.name)},
        "display_order": plan.rank,
        "is_visible": plan.visible,
        "prices": plan.prices,
        "features": plan.features,
        "limits": plan.quotas,
    }


@router.get("")
async def tiers(plans: AllPlans) -> list[dict[str, Any]]:
    """The tiers that everybody may see."""
    return [tier(plan) for plan in plans.plans if plan.visible]


@router.get("/{id}")
async def one_tier(id: str, plans: AllPlans) -> dict[str, Any]:
    """One tier; also one that is only shown to whom it is offered."""
    try:
        return tier(plans.get(id))
    except quotum.UnknownNameError as error:
        raise HTTPException(404, "no such tier") from error
