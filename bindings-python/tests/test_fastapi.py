"""quotum.fastapi: real apps over HTTP, and the ends of streams as servers bring them about."""

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

import quotum
from quotum import AsyncQuota, AsyncReservation, Decision, Identity, ManualClock
from quotum.fastapi import Quotas
from quotum.http import Mapping

pytestmark = pytest.mark.asyncio

PLANS = """
default_plan = "free"
rates = { login = "2/minute" }

[plans.free]
name = "Free"
features = { excel = false, history_days = 30 }
quotas = { searches = "3/day", tokens = "1000/day" }
rates = { api = "100/minute" }

[plans.pro]
rank = 1
prices = { monthly = "BRL 297.00" }
features = { excel = true, history_days = 365 }
quotas = { searches = "50/day", tokens = "100000/day" }
rates = { api = "100/minute" }
"""
NOON = datetime(2026, 1, 15, 12, tzinfo=timezone.utc)
ANA = {"authorization": "Bearer key-of-ana"}
BEN = {"x-api-key": "key-of-ben"}


def verify(token: str) -> str | None:
    if token == "key-of-nobody":
        raise RuntimeError("ldap-7 is down")
    return token.removeprefix("key-of-") if token.startswith("key-of-") else None


class Chat(BaseModel):
    prompt: str
    tokens_max: int = 600


async def days(days: int = 7) -> int:
    return days


async def tokens_max(chat: Chat) -> int:
    return chat.tokens_max


async def once(idempotency_key: Annotated[str | None, Header()] = None) -> str | None:
    return idempotency_key


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def app(tmp_path: Path, clock: ManualClock) -> FastAPI:
    return make_app(f"sqlite:{tmp_path}/quota.db", clock=clock)


def make_app(url: str, mapping: Mapping | None = None, **options: Any) -> FastAPI:
    """An app whose engine is opened in its lifespan."""
    plans = quotum.Plans.from_toml(PLANS)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncQuota.open(url, plans=plans, verifier=verify, **options) as app.state.quota:
            yield

    async def engine(request: Request) -> AsyncQuota:
        quota: AsyncQuota = request.app.state.quota
        return quota

    app = FastAPI(lifespan=lifespan)
    app.state.calls = 0
    quotas = Quotas(engine, mapping=mapping, trusted_hops=1)
    quotas.install(app)
    app.include_router(quotas.router(), prefix="/api")
    serve_searches(app, quotas)
    serve_chats(app, quotas)
    return app


def serve_searches(app: FastAPI, quotas: Quotas) -> None:
    @app.get("/search")
    async def search(decision: Annotated[Decision, Depends(quotas.admit(rate="api", searches=1))]) -> dict[str, Any]:
        app.state.calls += 1
        return {"for": decision.subject, "left": decision.quotas[0].remaining}

    @app.get("/sync-search", dependencies=[Depends(quotas.consume(searches=1))])
    def sync_search() -> str:
        return "found"

    @app.get("/failing", dependencies=[Depends(quotas.consume(searches=1))])
    async def failing() -> None:
        raise HTTPException(404, "no such tender")

    @app.get("/order", dependencies=[Depends(quotas.consume(searches=1, idempotency_key=once))])
    async def order() -> str:
        return "ordered"

    @app.get("/excel", dependencies=[Depends(quotas.require("excel"))])
    async def excel() -> str:
        return "a sheet"

    @app.get("/history", dependencies=[Depends(quotas.require("history_days", days))])
    async def history() -> str:
        return "history"

    @app.get("/who")
    async def who(identity: Annotated[Identity, Depends(quotas.authenticate)]) -> str:
        return identity.subject

    @app.post("/login", dependencies=[Depends(quotas.rate("login", quotas.address))])
    async def login() -> str:
        return "welcome"

    @app.get("/mistaken", dependencies=[Depends(quotas.consume(serches=1))])
    async def mistaken() -> None:
        app.state.calls += 1

    @app.get("/by-hand")
    async def by_hand(request: Request) -> None:
        (await request.app.state.quota.require("ana", "excel")).raise_for_denied()


def serve_chats(app: FastAPI, quotas: Quotas) -> None:
    Reserved = Annotated[AsyncReservation, Depends(quotas.reserve(tokens=tokens_max, rate="api", ttl=60))]

    @app.post("/chat")
    async def chat(chat: Chat, reservation: Reserved) -> StreamingResponse:
        async def answer() -> AsyncIterator[str]:
            app.state.held = (await tokens_of(app)).held
            yield "one "
            if chat.prompt == "fail":
                raise RuntimeError("the model broke")
            if chat.prompt == "for ever":
                while True:
                    await asyncio.sleep(0.01)
                    yield "more "
            if chat.prompt != "forget":
                await reservation.commit(tokens=120)
            yield "two"

        if chat.prompt == "refuse":
            raise HTTPException(400, "not that")
        return StreamingResponse(answer(), media_type="text/plain")


async def tokens_of(app: FastAPI, subject: str = "ana") -> quotum.QuotaState:
    usage: quotum.Usage = await app.state.quota.usage(subject)
    return next(state for state in usage.quotas if state.metric == "tokens")


async def wait_until_nothing_is_held(app: FastAPI) -> quotum.QuotaState:
    until = time.monotonic() + 10
    while (state := await tokens_of(app)).held:
        assert time.monotonic() < until, "what was reserved is held for ever"
        await asyncio.sleep(0.01)
    return state


@contextlib.asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        yield client


async def test_the_limit_passes_and_the_first_denial_says_everything(app: FastAPI) -> None:
    async with client_of(app) as client:
        first = await client.get("/search", headers=ANA)
        assert (first.status_code, first.json()) == (200, {"for": "ana", "left": 2})
        assert first.headers["ratelimit-policy"] == '"api/60s";q=100;w=60, "searches/day";q=3;qu="searches"'
        assert first.headers["ratelimit"] == '"api/60s";r=99;t=1, "searches/day";r=2;t=43200'
        assert "retry-after" not in first.headers

        await client.get("/search", headers=ANA)
        last = await client.get("/search", headers=ANA)
        assert (last.status_code, last.json()["left"]) == (200, 0)

        denied = await client.get("/search", headers=ANA)
        assert denied.status_code == 429
        assert denied.headers["content-type"] == "application/problem+json"
        assert denied.headers["retry-after"] == "43200"
        assert '"searches/day";r=0;t=43200' in denied.headers["ratelimit"]
        problem = denied.json()
        assert problem["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
        assert (problem["reason"], problem["limit"], problem["used"]) == ("quota_exhausted", 3, 3)
        assert (problem["upgrade_to"], problem["violated-policies"]) == ("pro", ["searches/day"])
        assert app.state.calls == 3
        assert (await client.get("/search", headers=BEN)).json() == {"for": "ben", "left": 2}


async def test_of_a_burst_at_the_edge_exactly_the_limit_passes(app: FastAPI) -> None:
    async with client_of(app) as client:
        responses = await asyncio.gather(*(client.get("/search", headers=ANA) for _ in range(40)))
        statuses = [response.status_code for response in responses]
        assert (statuses.count(200), statuses.count(429), app.state.calls) == (3, 37, 3)


async def test_the_next_period_starts_afresh(app: FastAPI, clock: ManualClock) -> None:
    async with client_of(app) as client:
        for status in (200, 200, 200, 429):
            assert (await client.get("/search", headers=ANA)).status_code == status
        clock.advance(timedelta(hours=12))
        assert (await client.get("/search", headers=ANA)).json()["left"] == 2


async def test_an_upgrade_holds_at_once_and_keeps_what_was_used(app: FastAPI) -> None:
    async with client_of(app) as client:
        for status in (200, 200, 200, 429):
            assert (await client.get("/search", headers=ANA)).status_code == status
        await app.state.quota.subscribe("ana", "pro")
        assert (await client.get("/search", headers=ANA)).json()["left"] == 46


async def test_nobody_is_let_in_who_is_not_known(app: FastAPI) -> None:
    async with client_of(app) as client:
        for path in ("/search", "/who", "/api/me", "/api/usage"):
            without = await client.get(path)
            assert (without.status_code, without.headers["www-authenticate"]) == (401, "Bearer")
            assert without.headers["content-type"] == "application/problem+json"
            guessed = await client.get(path, headers={"authorization": "Bearer guessed"})
            assert guessed.headers["www-authenticate"] == 'Bearer error="invalid_token"'
            assert guessed.json()["reason"] == "unauthenticated"
        assert app.state.calls == 0
        assert (await client.get("/who", headers=ANA)).json() == "ana"


async def test_a_verifier_that_is_down_is_503_and_lets_nobody_in(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(app) as client:
        for path in ("/search", "/who"):
            response = await client.get(path, headers={"authorization": "Bearer key-of-nobody"})
            assert (response.status_code, response.headers["retry-after"]) == (503, "5")
            assert "ldap" not in response.text
    assert "ldap-7" in caplog.text


async def test_a_missing_feature_is_403_and_says_which_plan_has_it(app: FastAPI) -> None:
    async with client_of(app) as client:
        denied = await client.get("/excel", headers=ANA)
        assert denied.status_code == 403
        assert (denied.json()["reason"], denied.json()["upgrade_to"]) == ("feature_not_in_plan", "pro")
        await app.state.quota.subscribe("ana", "pro")
        assert (await client.get("/excel", headers=ANA)).status_code == 200


async def test_a_value_of_a_feature_is_found_by_a_dependency_and_validated(app: FastAPI) -> None:
    async with client_of(app) as client:
        assert (await client.get("/history?days=30", headers=ANA)).status_code == 200
        denied = await client.get("/history?days=90", headers=ANA)
        assert (denied.status_code, denied.json()["feature_granted"]) == (403, 30)
        assert (await client.get("/history?days=many", headers=ANA)).status_code == 422


async def test_logins_are_limited_by_what_the_trusted_proxy_saw(app: FastAPI) -> None:
    async with client_of(app) as client:

        async def login(forwarded_for: str) -> httpx.Response:
            return await client.post("/login", headers={"x-forwarded-for": forwarded_for})

        assert (await login("203.0.113.7")).status_code == 200
        assert (await login("1.2.3.4, 203.0.113.7")).status_code == 200
        denied = await login("5.6.7.8, 203.0.113.7")
        assert (denied.status_code, denied.headers["retry-after"]) == (429, "30")
        assert denied.json()["reason"] == "rate_limited"
        assert (await login("203.0.113.8")).status_code == 200


async def test_fields_are_on_every_response_of_the_endpoint(app: FastAPI) -> None:
    async with client_of(app) as client:
        missing = await client.get("/failing", headers=ANA)
        assert (missing.status_code, missing.headers["ratelimit"]) == (404, '"searches/day";r=2;t=43200')
        assert (await client.get("/sync-search", headers=ANA)).headers["ratelimit"] == '"searches/day";r=1;t=43200'
        assert "ratelimit" not in (await client.get("/api/plans")).headers


async def test_one_idempotency_key_charges_once(app: FastAPI) -> None:
    async with client_of(app) as client:
        for _ in range(5):
            response = await client.get("/order", headers={**ANA, "idempotency-key": "order-7"})
            assert response.headers["ratelimit"] == '"searches/day";r=2;t=43200'
        await client.get("/order", headers=ANA)
        assert (await client.get("/order", headers=ANA)).headers["ratelimit"] == '"searches/day";r=0;t=43200'
        refused = await client.get("/order", headers={**ANA, "idempotency-key": "x" * 1000})
        assert refused.status_code == 400


async def test_a_denial_that_an_endpoint_raises_itself_is_answered_too(app: FastAPI) -> None:
    async with client_of(app) as client:
        denied = await client.get("/by-hand")
        assert (denied.status_code, denied.json()["reason"]) == (403, "feature_not_in_plan")


async def test_statuses_are_those_of_the_mapping(tmp_path: Path) -> None:
    app = make_app(f"sqlite:{tmp_path}/quota.db", Mapping(statuses={"quota_exhausted": 402}, fields="legacy"))
    async with client_of(app) as client:
        assert (await client.get("/search", headers=ANA)).headers["x-ratelimit-limit"] == "3"
        for status in (200, 200, 402):
            assert (await client.get("/search", headers=ANA)).status_code == status


async def test_a_store_that_fails_is_503_and_never_429(tmp_path: Path) -> None:
    down = False

    def subscription(subject: str) -> None:
        if down:
            raise RuntimeError("db-7.internal is down")

    app = make_app(f"sqlite:{tmp_path}/quota.db", subscriptions=subscription, subscription_ttl=0.001, breaker=False)
    async with client_of(app) as client:
        assert (await client.get("/search", headers=ANA)).status_code == 200
        down = True
        for path in ("/search", "/excel", "/api/me"):
            response = await client.get(path, headers=BEN)
            assert (response.status_code, response.headers["retry-after"]) == (503, "5")
            assert response.headers["content-type"] == "application/problem+json"
            assert "db-7" not in response.text
        chat = await client.post("/chat", headers=BEN, json={"prompt": "hello"})
        assert chat.status_code == 503
        assert app.state.calls == 1


async def test_a_mistake_of_the_backend_is_500_that_says_nothing_and_is_logged(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(app) as client:
        response = await client.get("/mistaken", headers=ANA)
    assert (response.status_code, app.state.calls) == (500, 0)
    assert "searches" not in response.text
    [record] = [record for record in caplog.records if record.name == "quotum"]
    assert record.levelno == logging.ERROR
    assert "serches" in record.getMessage()


async def test_an_endpoint_commits_what_was_really_used_while_it_streams(app: FastAPI) -> None:
    async with client_of(app) as client:
        response = await client.post("/chat", headers=ANA, json={"prompt": "hello"})
        assert (response.status_code, response.text) == (200, "one two")
        assert app.state.held == 600, "it is held while the stream goes on"
        assert response.headers["ratelimit"].startswith('"api/60s";r=99;t=1, "tokens/day";r=400;t=')
        state = await tokens_of(app)
        assert (state.used, state.held) == (120, 0)


async def test_what_is_not_committed_is_given_back(app: FastAPI) -> None:
    async with client_of(app) as client:
        for prompt in ("forget", "fail", "refuse"):
            with contextlib.suppress(httpx.RemoteProtocolError, RuntimeError):
                await client.post("/chat", headers=ANA, json={"prompt": prompt})
            state = await wait_until_nothing_is_held(app)
            assert (prompt, state.used) == (prompt, 0)


async def test_a_reservation_that_does_not_fit_is_denied(app: FastAPI) -> None:
    async with client_of(app) as client:
        denied = await client.post("/chat", headers=ANA, json={"prompt": "hello", "tokens_max": 1001})
        assert (denied.status_code, denied.json()["reason"]) == (429, "never_fits")
        assert (await client.post("/chat", json={"prompt": "hello"})).status_code == 401
        assert (await tokens_of(app)).held == 0


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


async def test_a_client_that_goes_away_leaves_nothing_held(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/quota.db"
    app = make_app(url)
    with served(app) as address, quotum.Quota.open(url, plans=quotum.Plans.from_toml(PLANS)) as observer:

        def held() -> int:
            return next(state.held for state in observer.usage("ana").quotas if state.metric == "tokens")

        async with httpx.AsyncClient(base_url=address) as client:
            stream = client.stream("POST", "/chat", headers=ANA, json={"prompt": "for ever"})
            async with stream as response:
                async for part in response.aiter_text():
                    assert part
                    break
                assert held() == 600
        until = time.monotonic() + 10
        while held():
            assert time.monotonic() < until, "what was reserved for a client that is gone is held for ever"
            await asyncio.sleep(0.02)


async def test_plans_and_account_pages_are_ready(app: FastAPI) -> None:
    async with client_of(app) as client:
        plans = (await client.get("/api/plans")).json()
        assert ([plan["id"] for plan in plans["plans"]], plans["total"]) == (["free", "pro"], 2)
        assert plans["plans"][1]["prices"] == {"monthly": "BRL 297.00"}
        assert plans["plans"][0]["features"]["history_days"] == 30

        await client.get("/search", headers=ANA)
        trial_end = NOON + timedelta(days=7)
        await app.state.quota.subscribe("ana", "pro", status="trialing", trial_ends_at=trial_end)
        me = (await client.get("/api/me", headers=ANA)).json()
        assert (me["subject"], me["plan"], me["status"]) == ("ana", "pro", "trialing")
        assert me["trial_ends_at"] == "2026-01-22T12:00:00Z"
        assert me["features"] == {"excel": True, "history_days": 365}
        usage = (await client.get("/api/usage", headers=ANA)).json()
        searches = next(state for state in usage["quotas"] if state["metric"] == "searches")
        assert (searches["used"], searches["limit"], searches["remaining"]) == (1, 50, 49)


async def test_the_backend_may_say_itself_who_asks() -> None:
    async with AsyncQuota.open("memory:", plans=quotum.Plans.from_toml(PLANS), verifier=verify) as quota:

        async def current_user(x_user: Annotated[str | None, Header()] = None) -> str | None:
            return x_user

        app = FastAPI()
        quotas = Quotas(quota, subject=current_user)
        quotas.install(app)
        app.include_router(quotas.router())

        @app.get("/search", dependencies=[Depends(quotas.consume({"searches": 1}))])
        async def search() -> str:
            return "found"

        async with client_of(app) as client:
            for status in (200, 200, 200, 429):
                assert (await client.get("/search", headers={"x-user": "cy"})).status_code == status
            assert (await client.get("/me", headers={"x-user": "cy"})).json()["subject"] == "cy"
            assert (await client.get("/search")).status_code == 401


async def test_the_documentation_shows_who_may_ask_and_needs_no_request(app: FastAPI) -> None:
    documents = app.openapi()
    assert set(documents["components"]["securitySchemes"]) == {"HTTPBearer", "APIKeyHeader"}
    assert documents["paths"]["/search"]["get"]["security"] == [{"HTTPBearer": []}, {"APIKeyHeader": []}]
    assert "parameters" not in documents["paths"]["/search"]["get"]
    assert "security" not in documents["paths"]["/login"]["post"]
    [days] = documents["paths"]["/history"]["get"]["parameters"]
    assert (days["name"], days["schema"]["type"]) == ("days", "integer")
    schema = documents["paths"]["/chat"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["$ref"].endswith("/Chat"), "the endpoint and the cost share one body"


async def test_an_app_that_was_not_installed_says_so_at_the_first_request() -> None:
    async with AsyncQuota.open("memory:", plans=quotum.Plans.from_toml(PLANS), verifier=verify) as quota:
        app = FastAPI()

        @app.get("/", dependencies=[Depends(Quotas(quota).consume(searches=1))])
        async def search() -> None: ...

        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            with pytest.raises(RuntimeError, match="install"):
                await client.get("/", headers=ANA)
