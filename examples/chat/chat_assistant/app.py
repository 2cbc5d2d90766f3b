"""The app: its engine, and its routes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import quotum.logging
from fastapi import FastAPI
from quotum import AsyncQuota, ManualClock, Plans
from quotum.fastapi import Quotas

from . import tiers
from .account import accounts, engine
from .chat import chats
from .model import Model, echo
from .settings import Settings


def create_app(
    settings: Settings | None = None, *, model: Model | None = None, clock: ManualClock | None = None
) -> FastAPI:
    """The app of a deployment; with a model and a clock of their own, that of a test."""
    settings = settings or Settings.from_environment()
    plans = Plans.from_file(settings.plans)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncQuota.open(
            settings.quotum_url,
            plans=plans,
            verifier=settings.keys.get,
            store_timeout=settings.store_timeout_s,
            clock=clock,
            on_event=quotum.logging.log,
            # The usage statistics are read from the store's log.
            log_events="all",
        ) as app.state.quota:
            yield

    app = FastAPI(title="Chat assistant", lifespan=lifespan)
    app.state.plans = plans
    quotas = Quotas(engine)
    quotas.install(app)
    app.include_router(chats(quotas, model or echo(settings.model_pause_s), settings.answer_s_max), prefix="/api")
    app.include_router(accounts(quotas), prefix="/api")
    app.include_router(tiers.router, prefix="/api")
    return app
