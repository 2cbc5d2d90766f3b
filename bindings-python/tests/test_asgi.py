"""quotum.asgi: around apps of Starlette and around bare ones."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import quotum
from quotum import AsyncQuota, ManualClock
from quotum.asgi import Ask, Head, Message, QuotaMiddleware, Receive, Scope, Send

pytestmark = pytest.mark.asyncio

PLANS = quotum.Plans.from_toml("""
default_plan = "free"
rates = { login = "2/minute" }

[plans.free]
features = { excel = false }
quotas = { searches = "3/day", minutes = "60/month" }
rates = { api = "100/minute" }

[plans.pro]
rank = 1
features = { excel = true }
quotas = { searches = "50/day", minutes = "6000/month" }
rates = { api = "100/minute" }
""")
NOON = datetime(2026, 1, 15, 12, tzinfo=timezone.utc)
ANA = {"authorization": "Bearer key-of-ana"}


def verify(token: str) -> str | None:
    return token.removeprefix("key-of-") if token.startswith("key-of-") else None


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


def ask(head: Head) -> Ask | None:
    match head.path:
        case "/health":
            return None
        case "/login":
            return Ask(rate="login", rate_key=head.address(trusted_hops=1))
        case "/excel":
            return Ask(token=head.token, features=["excel"])
        case "/mistaken":
            return Ask(token=head.token, serches=1)
        case "/work" | "/stuck" | "/broken":
            return Ask(token=head.token, rate="api", minutes=60, reserve=timedelta(seconds=60))
        case _:
            return Ask(token=head.token, rate="api", searches=1)


async def endpoint(request: Request) -> Response:
    if request.url.path == "/missing":
        raise HTTPException(404)
    decision = getattr(request.state, "quotum_decision", None)
    return PlainTextResponse(f"for {decision.subject}" if decision else "for nobody", headers={"x-own": "kept"})


async def work(request: Request) -> Response:
    reservation: quotum.AsyncReservation = request.state.quotum_reservation

    async def progress() -> AsyncIterator[str]:
        yield "begun, "
        if request.url.path == "/broken":
            raise RuntimeError("the machine broke")
        if request.url.path == "/stuck":
            await asyncio.Event().wait()
        settlement = await reservation.commit(minutes=12)
        yield f"{settlement.consumed['minutes']} minutes"

    return StreamingResponse(progress())


def make_app(quota: Callable[[Scope], AsyncQuota] | AsyncQuota) -> Starlette:
    routes = [Route(path, work) for path in ("/work", "/stuck", "/broken")] + [
        Route(path, endpoint, methods=["GET", "POST"])
        for path in ("/search", "/health", "/login", "/excel", "/missing", "/mistaken")
    ]
    return Starlette(routes=routes, middleware=[Middleware(QuotaMiddleware, quota=quota, ask=ask)])


@contextlib.asynccontextmanager
async def opened(clock: ManualClock | None = None, **options: Any) -> AsyncIterator[AsyncQuota]:
    async with AsyncQuota.open("memory:", plans=PLANS, verifier=verify, clock=clock, **options) as quota:
        yield quota


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://app")


async def minutes_of(quota: AsyncQuota) -> tuple[int, int]:
    state = next(state for state in (await quota.usage("ana")).quotas if state.metric == "minutes")
    return state.used, state.held


async def wait_until_nothing_is_held(quota: AsyncQuota) -> None:
    until = time.monotonic() + 10
    while (await minutes_of(quota))[1]:
        assert time.monotonic() < until, "what was reserved is held for ever"
        await asyncio.sleep(0.01)


async def test_the_limit_passes_and_the_first_denial_says_everything(clock: ManualClock) -> None:
    async with opened(clock) as quota, client_of(make_app(quota)) as client:
        first = await client.get("/search", headers=ANA)
        assert (first.status_code, first.text, first.headers["x-own"]) == (200, "for ana", "kept")
        assert first.headers["ratelimit-policy"] == '"api/60s";q=100;w=60, "searches/day";q=3;qu="searches"'
        assert first.headers["ratelimit"] == '"api/60s";r=99;t=1, "searches/day";r=2;t=43200'
        await client.get("/search", headers=ANA)
        assert (await client.get("/search", headers=ANA)).status_code == 200
        denied = await client.get("/search", headers=ANA)
        assert (denied.status_code, denied.headers["retry-after"]) == (429, "43200")
        assert denied.headers["content-type"] == "application/problem+json"
        assert (denied.json()["reason"], denied.json()["upgrade_to"]) == ("quota_exhausted", "pro")


async def test_of_a_burst_at_the_edge_exactly_the_limit_passes(clock: ManualClock) -> None:
    async with opened(clock) as quota, client_of(make_app(quota)) as client:
        responses = await asyncio.gather(*(client.get("/search", headers=ANA) for _ in range(40)))
        assert sorted(response.status_code for response in responses) == [200] * 3 + [429] * 37


async def test_the_next_period_and_another_plan_give_more(clock: ManualClock) -> None:
    async with opened(clock) as quota, client_of(make_app(quota)) as client:

        async def search() -> tuple[int, str]:
            response = await client.get("/search", headers=ANA)
            return response.status_code, response.headers["ratelimit"].split(", ")[1]

        assert [(await search())[0] for _ in range(4)] == [200, 200, 200, 429]
        clock.advance(timedelta(hours=12))
        assert await search() == (200, '"searches/day";r=2;t=86400')
        await quota.subscribe("ana", "pro")
        assert await search() == (200, '"searches/day";r=48;t=86400')


async def test_what_asks_for_nothing_passes_as_it_came() -> None:
    async with opened() as quota, client_of(make_app(quota)) as client:
        response = await client.get("/health")
        assert (response.text, "ratelimit" in response.headers) == ("for nobody", False)


async def test_fields_are_on_the_response_whatever_its_status() -> None:
    async with opened() as quota, client_of(make_app(quota)) as client:
        response = await client.get("/missing", headers=ANA)
        assert (response.status_code, "ratelimit" in response.headers) == (404, True)


async def test_only_a_token_that_was_given_is_called_invalid() -> None:
    async with opened() as quota, client_of(make_app(quota)) as client:
        for headers, challenge in [({}, "Bearer"), ({"x-api-key": "guessed"}, 'Bearer error="invalid_token"')]:
            response = await client.get("/search", headers=headers)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, challenge)
        assert (await client.get("/search", headers={"x-api-key": "key-of-ben"})).text == "for ben"


async def test_a_missing_feature_is_403() -> None:
    async with opened() as quota, client_of(make_app(quota)) as client:
        denied = await client.get("/excel", headers=ANA)
        assert (denied.status_code, denied.json()["feature"]) == (403, "excel")


async def test_logins_are_limited_by_what_the_trusted_proxy_saw() -> None:
    async with opened() as quota, client_of(make_app(quota)) as client:
        statuses = [
            (await client.post("/login", headers={"x-forwarded-for": line})).status_code
            for line in ("203.0.113.7", "1.2.3.4, 203.0.113.7", "5.6.7.8, 203.0.113.7", "203.0.113.8")
        ]
        assert statuses == [200, 200, 429, 200]


async def test_a_store_that_is_damaged_is_503_and_not_429(tmp_path: Path) -> None:
    path = tmp_path / "quota.db"
    plans = quotum.Plans.from_toml('default_plan = "free"\n[plans.free]\nquotas = { searches = "3/day" }')
    async with AsyncQuota.open(f"sqlite:{path}", plans=plans, verifier=verify, breaker=False) as quota:
        app = QuotaMiddleware(endpoint_app, quota=quota, ask=lambda head: Ask(token=head.token, searches=1))
        async with client_of(app) as client:
            assert (await client.get("/search", headers=ANA)).status_code == 200
            for file in tmp_path.iterdir():
                file.write_bytes(b"not a database" * 1000)
            response = await client.get("/search", headers=ANA)
            assert (response.status_code, response.headers["retry-after"]) == (503, "5")
            assert str(path) not in response.text
        with contextlib.suppress(quotum.StoreError):
            await quota.close()


async def test_a_mistake_is_500_that_says_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as quota, client_of(make_app(quota)) as client:
        response = await client.get("/mistaken", headers=ANA)
    assert response.status_code == 500
    assert "searches" not in response.text
    assert [(record.name, record.levelno) for record in caplog.records] == [("quotum", logging.ERROR)]


async def test_the_app_commits_what_was_really_used() -> None:
    async with opened() as quota, client_of(make_app(quota)) as client:
        response = await client.get("/work", headers=ANA)
        assert response.text == "begun, 12 minutes"
        assert response.headers["ratelimit"].startswith('"api/60s";r=99;t=1, "minutes/month";r=0;t=')
        assert await minutes_of(quota) == (12, 0)


async def test_a_stream_that_fails_gives_back_what_was_reserved() -> None:
    async with opened() as quota, client_of(make_app(quota)) as client:
        with contextlib.suppress(httpx.RemoteProtocolError):
            await client.get("/broken", headers=ANA)
        await wait_until_nothing_is_held(quota)
        assert await minutes_of(quota) == (0, 0)


def http_scope(path: str, **more: Any) -> dict[str, Any]:
    headers = [(name.encode(), value.encode()) for name, value in ANA.items()]
    return {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers, **more}


async def test_a_client_that_goes_away_leaves_nothing_held() -> None:
    begun = asyncio.Event()

    async def receive() -> Message:
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message.get("body"):
            begun.set()

    async with opened() as quota:
        app = make_app(quota)
        serving = asyncio.create_task(app(http_scope("/stuck"), receive, send))
        await begun.wait()
        assert await minutes_of(quota) == (0, 60)
        await asyncio.wait_for(serving, 10)
        await wait_until_nothing_is_held(quota)


async def endpoint_app(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"RateLimit", b'"proxy";r=1'), (b"X-RateLimit-Limit", b"7")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": repr(scope["state"]["quotum_decision"]).encode()})


async def test_layers_within_layers_each_tell_of_their_own_limits() -> None:
    async with opened() as quota:
        mapping = quotum.http.Mapping(fields="both")

        def inner_ask(head: Head) -> Ask:
            return Ask(head.scope["state"]["quotum_decision"].subject, searches=1)

        async def outer_ask(head: Head) -> Ask:
            return Ask("ana", rate="api")

        inner = QuotaMiddleware(endpoint_app, quota=quota, ask=inner_ask, mapping=mapping)
        outer = QuotaMiddleware(inner, quota=quota, ask=outer_ask, mapping=mapping)
        async with client_of(outer) as client:
            headers = (await client.get("/")).headers
        told = headers.get_list("ratelimit")
        assert [line.split(";")[0] for line in told] == ['"proxy"', '"searches/day"', '"api/60s"']
        assert headers.get_list("x-ratelimit-limit") == ["7"]


async def test_an_engine_may_be_opened_in_a_lifespan() -> None:
    state: dict[str, AsyncQuota] = {}

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with opened() as state["quota"]:
            yield

    app = make_app(lambda scope: state["quota"])
    app.router.lifespan_context = lifespan
    async with app.router.lifespan_context(app), client_of(app) as client:
        assert (await client.get("/search", headers=ANA)).status_code == 200


async def handshake(app: QuotaMiddleware, **more: Any) -> list[Message]:
    """What an app sends to whoever opens a WebSocket."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(http_scope("/", type="websocket", **more), receive, send)
    return sent


async def test_a_websocket_is_asked_about_when_it_is_opened() -> None:
    async def accept(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    async with opened() as quota:
        app = QuotaMiddleware(accept, quota=quota, ask=lambda head: Ask(token=head.token, searches=3))
        [accepted] = await handshake(app)
        assert accepted["type"] == "websocket.accept"
        assert b"ratelimit" in dict(accepted["headers"])
        assert await handshake(app) == [{"type": "websocket.close", "code": 1008}]
        start, body = await handshake(app, extensions={"websocket.http.response": {}})
        assert (start["type"], start["status"]) == ("websocket.http.response.start", 429)
        assert b"quota_exhausted" in body["body"]


async def test_what_is_neither_http_nor_a_websocket_passes() -> None:
    seen: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError("nothing is sent or received")

    async with opened() as quota:
        await QuotaMiddleware(inner, quota=quota, ask=lambda head: Ask("ana", searches=1))(
            {"type": "lifespan"}, nothing, nothing
        )
    assert seen == ["lifespan"]


async def test_a_token_is_not_shown_by_what_is_asked() -> None:
    assert "secret" not in repr(Ask(token="secret-of-ana", rate="api", searches=1))
