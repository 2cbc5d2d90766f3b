"""The app: what each endpoint asks Quotum for, and what it does then."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import quotum.logging
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from quotum import AsyncQuota, Decision, Identity, ManualClock
from quotum.fastapi import Quotas
from quotum.http import Mapping

from . import admin
from .settings import Settings
from .tenders import Portal, PortalDown, Query, Result, Results, made_up_portal
from .users import Users

# The front end of this backend shows its offers on 403; what is too fast is 429, and a store that is down 503.
MAPPING = Mapping(statuses={"quota_exhausted": 403, "never_fits": 403})

_log = logging.getLogger(__name__)


def create_app(
    settings: Settings | None = None, *, portal: Portal = made_up_portal, clock: ManualClock | None = None
) -> FastAPI:
    """The app of a deployment; with a portal and a clock of their own, that of a test."""
    settings = settings or Settings.from_environment()
    users = Users(settings.users)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncQuota.open(
            settings.quotum_url,
            plans=settings.plans,
            verifier=users.user_of,
            store_timeout=settings.store_timeout_s,
            clock=clock,
            on_event=quotum.logging.log,
        ) as app.state.quota:
            if settings.check_disabled:
                # Not as an option of `open`, which what an administrator has ever switched outweighs.
                await app.state.quota.acting_as("QUOTUM_CHECK_DISABLED").set_enforcement("off")
            yield

    app = FastAPI(title="Tender search", lifespan=lifespan)
    app.state.settings, app.state.users, app.state.results = settings, users, Results()
    quotas = Quotas(engine, mapping=MAPPING, trusted_hops=settings.trusted_hops)
    quotas.install(app)
    app.add_exception_handler(PortalDown, portal_down)
    # GET /api/plans, /api/me and /api/usage.
    app.include_router(quotas.router(), prefix="/api")
    app.include_router(accounts(quotas), prefix="/api")
    app.include_router(searches(quotas, portal), prefix="/api/search")
    app.include_router(admin.router)
    app.add_api_route("/metrics", metrics, include_in_schema=False)
    return app


async def engine(request: Request) -> AsyncQuota:
    quota: AsyncQuota = request.app.state.quota
    return quota


async def users_of(request: Request) -> Users:
    users: Users = request.app.state.users
    return users


async def results_of(request: Request) -> Results:
    results: Results = request.app.state.results
    return results


Engine = Annotated[AsyncQuota, Depends(engine)]
AllUsers = Annotated[Users, Depends(users_of)]
AllResults = Annotated[Results, Depends(results_of)]


class Newcomer(BaseModel):
    """Who wants a key."""

    user: str = Field(pattern="^[a-z0-9._-]{1,64}$")


def accounts(quotas: Quotas) -> APIRouter:
    """Keys: how to get one, and how to be rid of it."""
    router = APIRouter(tags=["accounts"])
    # Nobody is known yet: it is limited by address, as the trial is.
    slowly = Depends(quotas.rate("api", quotas.address))

    @router.post("/register", status_code=201, dependencies=[slowly])
    async def register(newcomer: Newcomer, users: AllUsers) -> dict[str, str]:
        key = await run_in_threadpool(users.register, newcomer.user)
        if key is None:
            raise HTTPException(409, "this name is taken")
        return {"user": newcomer.user, "key": key}

    @router.delete("/key", status_code=204)
    async def revoke(caller: Annotated[Identity, Depends(quotas.authenticate)], users: AllUsers, quota: Engine) -> None:
        """End the caller's key, at once here and within a second in other processes."""
        await run_in_threadpool(users.revoke, caller.subject)
        await quota.forget_subject(caller.subject)

    return router


async def history_days(query: Query) -> int:
    return query.days


def searches(quotas: Quotas, portal: Portal) -> APIRouter:
    """Searches, and their results as sheets."""
    router = APIRouter(tags=["searches"])
    admit = quotas.admit(rate="api", features={"max_history_days": history_days}, searches=1)

    @router.post("")
    async def search(
        query: Query, decision: Annotated[Decision, Depends(admit)], quota: Engine, results: AllResults
    ) -> dict[str, Any]:
        """Search. It was counted before the work: however many tabs a user has open, none searches for free."""
        user = decision.subject or ""
        async with refunded_on_failure(quota, decision, searches=1):
            tenders = await portal(query)
        result = results.add(user, tenders)
        tokens_max = await quota.feature(user, "max_summary_tokens")
        state = decision.quota("searches")
        return {
            "id": result.id,
            "tenders": tenders,
            "summary": result.summary(tokens_max if isinstance(tokens_max, int) else 0),
            "searches_left": state and state.remaining,
        }

    async def result_of(
        search_id: str, caller: Annotated[Identity, Depends(quotas.authenticate)], results: AllResults
    ) -> Result:
        result = results.get(search_id, caller.subject)
        if result is None:
            raise HTTPException(404, "no such search of yours")
        return result

    # The result is looked for first: an export that cannot be made is not counted.
    @router.get("/{search_id}/excel", response_class=Response)
    async def excel(
        result: Annotated[Result, Depends(result_of)],
        decision: Annotated[Decision, Depends(quotas.admit(features=["allow_excel"], exports=1))],
    ) -> Response:
        """A result as a sheet, on plans that have it."""
        event = {"name": "excel_generated", "subject": result.user, "plan": decision.plan, "search": result.id}
        _log.info("excel_generated", extra={"quotum": event})
        headers = {"content-disposition": f'attachment; filename="{result.id}.csv"'}
        return Response(result.sheet(), media_type="text/csv", headers=headers)

    return router


@asynccontextmanager
async def refunded_on_failure(quota: AsyncQuota, decision: Decision, **costs: int) -> AsyncIterator[None]:
    """Give back what a decision has charged, where the work that it was for fails."""
    try:
        yield
    except Exception:
        # While enforcement is off nothing is charged, and nothing is to be given back.
        if decision.subject and decision.quotas:
            await quota.refund(decision.subject, **costs)
        raise


async def portal_down(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"detail": "the portal does not answer: this search is not counted"}, 502)


async def metrics(quota: Engine) -> Response:
    """What Prometheus reads."""
    return Response(quota.metrics(), media_type="application/openmetrics-text; version=1.0.0; charset=utf-8")
