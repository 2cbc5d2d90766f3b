"""A middleware for ASGI: Starlette, FastAPI, Litestar and others.

    from quotum.asgi import Ask, Head, QuotaMiddleware

    def ask(head: Head) -> Ask | None:
        if head.path == "/health":
            return None
        return Ask(token=head.token, rate="api", searches=1)

    app.add_middleware(QuotaMiddleware, quota=quota, ask=ask)

What a request asks for is said by a function of the backend's; nothing here reads a path or guesses a subject.

- Denied: the app is not called, and the answer is that of quotum.http.
- Allowed: the decision is in `request.state.quotum_decision`, what was set aside in `request.state.quotum_reservation`,
  and the RateLimit fields are on the response, whatever its status.
- Not asked: the request passes as it came. What is neither HTTP nor a WebSocket passes too.
- An error: 503 where the store or the verifier cannot answer, otherwise a 500 that says nothing, and a log record of
  "quotum" that says all.

A WebSocket is asked about once, when it is opened; one that is denied is not accepted. What was set aside for either,
and was not committed, is given back when the app returns: after the last part of a streamed response, or when the
client has gone away.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import nullcontext
from typing import Any, TypeAlias

from . import _gate
from ._errors import QuotumError
from ._gate import Address, Ask, awaited
from ._native import AsyncQuota, AsyncReservation
from .http import Answer, Mapping, token_of

__all__ = ["Ask", "Head", "QuotaMiddleware"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Asking: TypeAlias = Callable[["Head"], "Ask | Awaitable[Ask | None] | None"]
Fields: TypeAlias = Iterable[tuple[str, str]]


class Head:
    """The head of a request, or of the handshake that opens a WebSocket: what is known before its body is read."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    @property
    def method(self) -> str:
        """The method, such as "GET"."""
        return str(self.scope.get("method", "GET"))

    @property
    def path(self) -> str:
        """The path, decoded."""
        return str(self.scope["path"])

    def values(self, name: str) -> list[bytes]:
        """Every value of a header field, by its name in lower case."""
        wanted = name.encode("latin-1")
        return [value for field, value in self.scope["headers"] if field == wanted]

    @property
    def token(self) -> str:
        """The token of `Authorization: Bearer`, or else of `X-API-Key`. An empty one, which speaks for nobody, where
        there is none."""
        return token_of(self.values("authorization"), self.values("x-api-key")) or ""

    def address(self, trusted_hops: int = 0) -> Address:
        """The client's address, where so many proxies of one's own stand before this server."""
        client = self.scope.get("client")
        return _gate.address(trusted_hops, client[0] if client else None, self.values("x-forwarded-for"))


class QuotaMiddleware:
    """Admits requests before the app that it is put around.

    `quota` is the engine, or a function from the scope to it, for an engine that is opened in a lifespan, such as
    `lambda scope: scope["state"]["quota"]`. `ask` says what a request asks for; it must not block, and may be a
    coroutine function.
    """

    def __init__(
        self,
        app: App,
        *,
        quota: AsyncQuota | Callable[[Scope], AsyncQuota],
        ask: Asking,
        mapping: Mapping | None = None,
    ) -> None:
        self._app = app
        self._quota = quota
        self._ask = ask
        self._mapping = mapping or Mapping()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ask = await self._asked(scope)
        if ask is None:
            return await self._app(scope, receive, send)
        quota = self._quota if isinstance(self._quota, AsyncQuota) else self._quota(scope)
        try:
            admission = await awaited(_gate.admit(quota, ask))
            fields = admission.fields(self._mapping, quota.now)
        except QuotumError as error:
            return await refuse(_gate.refusal(error, self._mapping, quota.now), scope, receive, send)
        reservation = admission.reservation
        scope.setdefault("state", {}).update(quotum_decision=admission.decision, quotum_reservation=reservation)
        async with reservation if isinstance(reservation, AsyncReservation) else nullcontext():
            await self._app(scope, receive, adding(fields, send))

    async def _asked(self, scope: Scope) -> Ask | None:
        if scope["type"] not in ("http", "websocket"):
            return None
        ask = self._ask(Head(scope))
        return await ask if inspect.isawaitable(ask) else ask


def adding(fields: Fields, send: Send) -> Send:
    """Sends with header fields added to those of the response, as they are when it starts."""

    async def send_with_fields(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.accept"):
            message = {**message, "headers": _added(list(message.get("headers", ())), fields)}
        await send(message)

    return send_with_fields


def _added(headers: list[tuple[bytes, bytes]], fields: Fields) -> list[tuple[bytes, bytes]]:
    present = {bytes(name).lower() for name, _ in headers}
    new = [(name.encode(), value.encode()) for name, value in fields]
    return headers + [(name, value) for name, value in new if _gate.is_list(name.decode()) or name not in present]


async def refuse(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers in place of the app."""
    body = (answer.body or "").encode()
    fields = [*answer.fields, ("content-type", answer.content_type or ""), ("content-length", str(len(body)))]
    headers = [(name.encode(), value.encode()) for name, value in fields]
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()
        kind = "websocket.http.response"
        if kind not in (scope.get("extensions") or {}):
            # The server then answers 403 by itself.
            return await send({"type": "websocket.close", "code": 1008})
    await send({"type": f"{kind}.start", "status": answer.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
