"""Quotas for FastAPI: dependencies, an exception handler and a router.

    from quotum.fastapi import Quotas

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        async with quotum.AsyncQuota.open("sqlite:quota.db", plans="plans.toml", verifier=verify) as app.state.quota:
            yield

    async def engine(request: Request) -> quotum.AsyncQuota:
        return request.app.state.quota

    app = FastAPI(lifespan=lifespan)
    quotas = Quotas(engine)
    quotas.install(app)
    app.include_router(quotas.router(), prefix="/api")

    Searching = Annotated[Decision, Depends(quotas.admit(rate="api", searches=1))]

    @app.get("/search")
    async def search(decision: Searching): ...

A part of what is asked, such as a cost or a feature's value, may be a dependency of its own that finds it for each
request; its parameters are validated and documented as those of an endpoint:

    async def days(days: int = 7) -> int:
        return days

    @app.get("/history", dependencies=[Depends(quotas.require("max_history_days", days))])

One dependency asks the engine once, for all that it names. Around a streamed response, costs are reserved:

    @app.post("/chat")
    async def chat(reservation: Annotated[AsyncReservation, Depends(quotas.reserve(tokens=2000, ttl=600))]):
        async def answer():
            async for part in model():
                yield part
            await reservation.commit(tokens=...)
        return StreamingResponse(answer())

What is not committed is given back when the stream has ended or failed, or the client has gone away.

The dependencies are for HTTP. A WebSocket is asked about by quotum.asgi.

A denial is raised as quotum.DeniedError, and answered as quotum.http says, as is every other quotum.QuotumError.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

try:
    from fastapi import APIRouter, Depends, FastAPI, Request, Response
    from fastapi.security import APIKeyHeader, HTTPBearer
except ImportError as error:
    raise ImportError("quotum.fastapi needs FastAPI: pip install fastapi") from error

from . import _gate
from ._errors import QuotumError
from ._gate import Address, Admission, awaited
from ._native import AsyncQuota, AsyncReservation, Decision, Identity
from ._rule import Rule, Verbs
from .asgi import App, Head, Receive, Scope, Send, adding
from .http import Mapping

__all__ = ["Quotas"]

Made = TypeVar("Made", bound=Callable[..., Any])

_EXCHANGE = "quotum.exchange"


@dataclass
class _Exchange:
    """A request under way: which fields its response is to have, and what ends with it."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    ending: AsyncExitStack = field(default_factory=AsyncExitStack)
    quota: AsyncQuota | None = None


class _Exchanges:
    """The middleware that sends the fields that dependencies have noted, and releases what they have reserved.

    Dependencies cannot: a response of the endpoint's own has none of their fields, and which comes first, the end of
    the response or that of a dependency with `yield`, differs between FastAPI's versions.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _EXCHANGE in scope:
            return await self._app(scope, receive, send)
        scope[_EXCHANGE] = exchange = _Exchange()
        async with exchange.ending:
            await self._app(scope, receive, adding(exchange.fields, send))


@dataclass(frozen=True)
class _Caller:
    """Who asks: a subject that the backend knows, or whomever a token speaks for."""

    subject: str | None = None
    token: str | None = field(default=None, repr=False)


_NOBODY = _Caller(token="")

Deciding: TypeAlias = Callable[..., Coroutine[Any, Any, Decision]]
Reserving: TypeAlias = Callable[..., Coroutine[Any, Any, AsyncReservation]]
Identifying: TypeAlias = Callable[..., Coroutine[Any, Any, Identity]]


class Quotas(Verbs[Deciding, Reserving]):
    """Makes dependencies that ask an engine: `Depends(quotas.consume(searches=1))`.

    `quota` is the engine, or a dependency that returns it. Who asks is whomever the token of `Authorization: Bearer`
    or of `X-API-Key` speaks for; or give a dependency of the backend's own as `subject`, which returns the id of a
    subject, or None for nobody who is known. `trusted_hops` is how many proxies of one's own stand before this server.
    """

    authenticate: Identifying
    """A dependency: who asks, as a quotum.Identity. Nobody who is known is answered 401."""

    def __init__(
        self,
        quota: AsyncQuota | Callable[..., Any],
        *,
        subject: Callable[..., Any] | None = None,
        mapping: Mapping | None = None,
        trusted_hops: int = 0,
    ) -> None:
        self._quota = _always(quota) if isinstance(quota, AsyncQuota) else quota
        self._caller = _by_token() if subject is None else _by_subject(subject)
        self._mapping = mapping or Mapping()
        self._trusted_hops = trusted_hops
        self.authenticate = self._identifying()

    def install(self, app: FastAPI) -> None:
        """Answer the denials and errors of an app, and tell its clients of their limits. Not for an app that runs."""
        app.add_middleware(_Exchanges)
        app.add_exception_handler(QuotumError, self._refused)

    async def address(self, request: Request) -> Address:
        """A dependency: the client's address, as the key of a rate."""
        return Head(request.scope).address(self._trusted_hops)

    def router(self, **options: Any) -> APIRouter:
        """A router for `/plans`, `/me` and `/usage`, with the options of an APIRouter."""
        router = APIRouter(**{"tags": ["quotas"], **options})

        @router.get("/plans")
        async def plans(quota: AsyncQuota = Depends(self._quota)) -> dict[str, Any]:
            """The plans there are, cheapest first."""
            return await awaited(_gate.price_list(quota))

        @router.get("/me")
        async def me(
            quota: AsyncQuota = Depends(self._quota), who: Identity = Depends(self.authenticate)
        ) -> dict[str, Any]:
            """The caller's plan, its state, features and usage."""
            return (await quota.usage(who.subject)).to_dict()

        @router.get("/usage")
        async def usage(
            quota: AsyncQuota = Depends(self._quota), who: Identity = Depends(self.authenticate)
        ) -> dict[str, Any]:
            """Every quota of the caller."""
            return {"quotas": [state.to_dict() for state in (await quota.usage(who.subject)).quotas]}

        return router

    def _deciding(self, rule: Rule) -> Deciding:
        async def decision(request: Request, quota: AsyncQuota, caller: _Caller = _NOBODY, **found: Any) -> Decision:
            return (await self._admitted(rule, request, quota, caller, found)).decision

        return self._asking(decision, rule)

    def _reserving(self, rule: Rule) -> Reserving:
        async def reservation(
            request: Request, quota: AsyncQuota, caller: _Caller = _NOBODY, **found: Any
        ) -> AsyncReservation:
            reserved = (await self._admitted(rule, request, quota, caller, found)).reservation
            assert isinstance(reserved, AsyncReservation), "an AsyncQuota makes these"
            return await _exchange_of(request, quota).ending.enter_async_context(reserved)

        return self._asking(reservation, rule)

    def _identifying(self) -> Identifying:
        async def identity(request: Request, quota: AsyncQuota, caller: _Caller) -> Identity:
            _exchange_of(request, quota)
            return await awaited(_gate.identify(quota, caller.subject, caller.token))

        return _given(identity, quota=self._quota, caller=self._caller)

    def _asking(self, call: Made, rule: Rule) -> Made:
        dependencies = {_name(index): function for index, function in enumerate(rule.functions)}
        if not rule.is_by_anyone:
            dependencies["caller"] = self._caller
        return _given(call, quota=self._quota, **dependencies)

    async def _admitted(
        self, rule: Rule, request: Request, quota: AsyncQuota, caller: _Caller, found: dict[str, Any]
    ) -> Admission:
        exchange = _exchange_of(request, quota)
        parts = {function: found[_name(index)] for index, function in enumerate(rule.functions)}
        ask = rule.ask(caller.subject, caller.token, parts.__getitem__)
        admission = await awaited(_gate.admit(quota, ask))
        exchange.fields.extend(admission.fields(self._mapping, quota.now))
        return admission

    async def _refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, QuotumError), "it is a handler of these"
        quota = _exchange_of(request).quota
        answer = _gate.refusal(error, self._mapping, quota.now if quota else None)
        headers = dict(answer.fields)
        return Response(answer.body, answer.status or 500, headers, media_type=answer.content_type)


def _name(index: int) -> str:
    """The parameter for what one of a rule's functions has found."""
    return f"found_{index}"


def _exchange_of(request: Request, quota: AsyncQuota | None = None) -> _Exchange:
    try:
        exchange: _Exchange = request.scope[_EXCHANGE]
    except KeyError:
        raise RuntimeError("this app answers no denials yet: call Quotas.install(app) when it is made") from None
    exchange.quota = quota or exchange.quota
    return exchange


def _given(call: Made, **dependencies: Callable[..., Any]) -> Made:
    """The same function, that FastAPI gives the request, where it wants it, and what these dependencies return."""
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=Depends(dependency))
        for name, dependency in dependencies.items()
    ]
    if "request" in inspect.signature(call).parameters:
        parameters.append(inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request))
    # Functions are not declared to have this attribute, but inspect.signature reads it.
    setattr(call, "__signature__", inspect.Signature(parameters))
    return call


def _always(quota: AsyncQuota) -> Callable[[], Coroutine[Any, Any, AsyncQuota]]:
    async def engine() -> AsyncQuota:
        return quota

    return engine


def _by_token() -> Callable[..., Coroutine[Any, Any, _Caller]]:
    async def caller(request: Request, **_: Any) -> _Caller:
        return _Caller(token=Head(request.scope).token)

    # They are there to be documented: what they find is read again.
    api_key = APIKeyHeader(name="X-API-Key", auto_error=False)
    return _given(caller, bearer=HTTPBearer(auto_error=False), api_key=api_key)


def _by_subject(dependency: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, _Caller]]:
    async def caller(subject: str | None) -> _Caller:
        return _Caller(*_gate.named(subject))

    return _given(caller, subject=dependency)
