"""quotum.flask: real apps by Flask's test client."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, abort, g, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import quotum
from quotum import ManualClock, Quota
from quotum.flask import Quotas, Rule
from quotum.http import Mapping

PLANS = quotum.Plans.from_toml("""
default_plan = "free"
rates = { login = "2/minute" }

[plans.free]
features = { excel = false, history_days = 30 }
quotas = { searches = "3/day", tokens = "1000/day" }
rates = { api = "5/minute" }

[plans.pro]
rank = 1
prices = { monthly = "BRL 297.00" }
features = { excel = true, history_days = 365 }
quotas = { searches = "50/day", tokens = "100000/day" }
rates = { api = "5/minute" }
""")
NOON = datetime(2026, 1, 15, 12, tzinfo=timezone.utc)
ANA = {"Authorization": "Bearer key-of-ana"}


def verify(token: str) -> str | None:
    return token.removeprefix("key-of-") if token.startswith("key-of-") else None


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def app(tmp_path: Path, clock: ManualClock) -> Iterator[Flask]:
    app = make_app(f"sqlite:{tmp_path}/quota.db", clock=clock)
    yield app
    quota_of(app).close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def make_app(url: str, quotas: Quotas | None = None, **options: Any) -> Flask:
    quotas = quotas or Quotas()
    app = Flask(__name__)
    app.config.update(
        QUOTUM_URL=url,
        QUOTUM_PLANS=PLANS,
        QUOTUM_OPTIONS={"verifier": verify, **options},
        QUOTUM_TRUSTED_HOPS=1,
    )
    quotas.init_app(app)
    app.register_blueprint(quotas.blueprint(), url_prefix="/api")
    serve_searches(app, quotas)
    serve_chats(app, quotas)
    return app


def serve_searches(app: Flask, quotas: Quotas) -> None:
    @app.get("/search")
    @quotas.consume(searches=1)
    def search() -> dict[str, Any]:
        return {"for": g.quotum_decision.subject, "left": g.quotum_decision.quotas[0].remaining}

    @app.get("/both")
    @quotas.rate("api")
    @quotas.consume(searches=1)
    def both() -> str:
        return "found"

    @app.get("/failing")
    @quotas.consume(searches=1)
    def failing() -> str:
        abort(404)

    @app.get("/excel")
    @quotas.require("excel")
    def excel() -> str:
        return "a sheet"

    @app.get("/history")
    @quotas.require("history_days", lambda: request.args.get("days", 7, type=int))
    def history() -> str:
        return "history"

    @app.post("/login")
    @quotas.rate("login", quotas.address)
    def login() -> str:
        return "welcome"

    @app.get("/mistaken")
    @quotas.consume(serches=1)
    def mistaken() -> str:
        return "never"

    @app.get("/health")
    @quotas.exempt
    def health() -> str:
        return "well"

    @app.get("/other")
    def other() -> str:
        return "other"


def serve_chats(app: Flask, quotas: Quotas) -> None:
    @app.post("/chat")
    @quotas.reserve(tokens=600, ttl=timedelta(minutes=1))
    def chat() -> Response:
        prompt, reservation = request.get_data(as_text=True), g.quotum_reservation
        if prompt == "refuse":
            raise RuntimeError("not that")

        def answer() -> Iterator[str]:
            yield f"{tokens_of(app).held} held, "
            if prompt == "fail":
                raise RuntimeError("the model broke")
            if prompt != "forget":
                reservation.commit(tokens=120)
            yield "done"

        return Response(answer())


def quota_of(app: Flask) -> Quota:
    quota: Quota = app.extensions["quotum"]
    return quota


def tokens_of(app: Flask) -> quotum.QuotaState:
    return next(state for state in quota_of(app).usage("ana").quotas if state.metric == "tokens")


def wait_until_nothing_is_held(app: Flask) -> None:
    until = time.monotonic() + 10
    while tokens_of(app).held:
        assert time.monotonic() < until, "what was reserved is held for ever"
        time.sleep(0.01)


def test_the_limit_passes_and_the_first_denial_says_everything(client: FlaskClient) -> None:
    first = client.get("/search", headers=ANA)
    assert (first.status_code, first.json) == (200, {"for": "ana", "left": 2})
    assert first.headers["RateLimit-Policy"] == '"searches/day";q=3;qu="searches"'
    assert first.headers["RateLimit"] == '"searches/day";r=2;t=43200'
    client.get("/search", headers=ANA)
    assert client.get("/search", headers=ANA).json == {"for": "ana", "left": 0}
    denied = client.get("/search", headers=ANA)
    assert (denied.status_code, denied.headers["Retry-After"]) == (429, "43200")
    assert denied.headers["Content-Type"] == "application/problem+json"
    assert denied.headers["RateLimit"] == '"searches/day";r=0;t=43200'
    problem = denied.get_json(force=True)
    assert (problem["reason"], problem["upgrade_to"]) == ("quota_exhausted", "pro")


def test_of_a_burst_at_the_edge_exactly_the_limit_passes(app: Flask) -> None:
    statuses: list[int] = []

    def search() -> None:
        statuses.append(app.test_client().get("/search", headers=ANA).status_code)

    threads = [threading.Thread(target=search) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 3 + [429] * 17


def test_the_next_period_and_another_plan_give_more(app: Flask, client: FlaskClient, clock: ManualClock) -> None:
    assert [client.get("/search", headers=ANA).status_code for _ in range(4)] == [200, 200, 200, 429]
    clock.advance(timedelta(hours=12))
    assert client.get("/search", headers=ANA).json == {"for": "ana", "left": 2}
    quota_of(app).subscribe("ana", "pro")
    assert client.get("/search", headers=ANA).json == {"for": "ana", "left": 48}


def test_nobody_is_let_in_who_is_not_known(client: FlaskClient) -> None:
    for path in ("/search", "/api/me", "/api/usage"):
        without = client.get(path)
        assert (without.status_code, without.headers["WWW-Authenticate"]) == (401, "Bearer")
        guessed = client.get(path, headers={"X-API-Key": "guessed"})
        assert guessed.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_a_feature_and_as_much_of_it_as_is_asked_for_is_required(client: FlaskClient) -> None:
    denied = client.get("/excel", headers=ANA)
    assert (denied.status_code, denied.get_json(force=True)["upgrade_to"]) == (403, "pro")
    assert client.get("/history?days=30", headers=ANA).status_code == 200
    denied = client.get("/history?days=90", headers=ANA)
    assert (denied.status_code, denied.get_json(force=True)["reason"]) == (403, "feature_value_exceeded")


def test_logins_are_limited_by_what_the_trusted_proxy_saw(client: FlaskClient) -> None:
    def login(forwarded_for: str) -> TestResponse:
        return client.post("/login", headers={"X-Forwarded-For": forwarded_for})

    lines = ("203.0.113.7", "1.2.3.4, 203.0.113.7", "5.6.7.8, 203.0.113.7", "203.0.113.8")
    assert [login(line).status_code for line in lines] == [200, 200, 429, 200]
    assert login("203.0.113.7").headers["Retry-After"] == "30"


def test_every_decorator_tells_of_its_own_limits(client: FlaskClient) -> None:
    def told(response: TestResponse) -> list[str]:
        return [line.split(";")[0] for line in response.headers.getlist("RateLimit")]

    assert told(client.get("/both", headers=ANA)) == ['"api/60s"', '"searches/day"']
    missing = client.get("/failing", headers=ANA)
    assert (missing.status_code, told(missing)) == (404, ['"searches/day"'])


def test_the_default_is_asked_of_all_but_the_exempt(tmp_path: Path) -> None:
    app = make_app("memory:", Quotas(default=Rule(rate="api")))
    client = app.test_client()
    for status in [200] * 5 + [429]:
        assert client.get("/other", headers=ANA).status_code == status
    for path, status in [("/search", 429), ("/health", 200), ("/api/plans", 200), ("/nowhere", 404)]:
        assert client.get(path, headers=ANA).status_code == status


def test_what_is_reserved_is_held_while_the_answer_streams_and_then_committed(app: Flask, client: FlaskClient) -> None:
    with client.post("/chat", headers=ANA, data="hello") as response:
        assert response.get_data(as_text=True) == "600 held, done"
        assert response.headers["RateLimit"] == '"tokens/day";r=400;t=43200'
    assert (tokens_of(app).used, tokens_of(app).held) == (120, 0)


def test_what_is_not_committed_is_given_back(app: Flask, client: FlaskClient) -> None:
    with client.post("/chat", headers=ANA, data="forget") as response:
        assert response.status_code == 200
    wait_until_nothing_is_held(app)
    with client.post("/chat", headers=ANA, data="refuse") as response:
        assert response.status_code == 500
    wait_until_nothing_is_held(app)
    with client.post("/chat", headers=ANA, data="fail") as response:
        with pytest.raises(RuntimeError, match="the model broke"):
            response.get_data()
    wait_until_nothing_is_held(app)
    assert tokens_of(app).used == 0


def test_a_client_that_goes_away_leaves_nothing_held(app: Flask, client: FlaskClient) -> None:
    response = client.post("/chat", headers=ANA, data="hello", buffered=False)
    parts = response.iter_encoded()
    assert next(parts) == b"600 held, "
    # As a server does when it cannot send.
    response.close()
    wait_until_nothing_is_held(app)
    assert tokens_of(app).used == 0


def test_what_is_reserved_is_given_back_where_errors_are_not_answered(app: Flask) -> None:
    app.testing = True
    with pytest.raises(RuntimeError, match="not that"):
        app.test_client().post("/chat", headers=ANA, data="refuse")
    wait_until_nothing_is_held(app)


def test_a_store_that_fails_is_503_and_never_429() -> None:
    def subscription(subject: str) -> None:
        raise RuntimeError("db-7.internal is down")

    client = make_app("memory:", subscriptions=subscription, breaker=False).test_client()
    for path in ("/search", "/excel", "/api/me"):
        response = client.get(path, headers=ANA)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
        assert "db-7" not in response.text


def test_a_mistake_of_the_backend_is_500_that_says_nothing_and_is_logged(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = client.get("/mistaken", headers=ANA)
    assert (response.status_code, "searches" in response.text) == (500, False)
    [record] = [record for record in caplog.records if record.name == "quotum"]
    assert (record.levelno, "serches" in record.getMessage()) == (logging.ERROR, True)


def test_plans_and_account_pages_are_ready(app: Flask, client: FlaskClient) -> None:
    plans = client.get("/api/plans").json
    assert plans is not None
    assert ([plan["id"] for plan in plans["plans"]], plans["total"]) == (["free", "pro"], 2)
    quota_of(app).subscribe("ana", "pro", status="trialing", trial_ends_at=NOON + timedelta(days=7))
    client.get("/search", headers=ANA)
    me = client.get("/api/me", headers=ANA).json
    assert me is not None
    assert (me["plan"], me["trial_ends_at"]) == ("pro", "2026-01-22T12:00:00Z")
    assert me["features"] == {"excel": True, "history_days": 365}
    usage = client.get("/api/usage", headers=ANA).json
    assert usage is not None
    assert {state["metric"]: state["used"] for state in usage["quotas"]} == {"searches": 1, "tokens": 0}


def test_the_backend_may_say_itself_who_asks_and_answer_as_it_likes() -> None:
    quotas = Quotas(subject=lambda: request.headers.get("X-User"))
    app = make_app("memory:", quotas)

    @app.errorhandler(quotum.DeniedError)
    def denied(error: quotum.DeniedError) -> tuple[str, int]:
        return f"no: {error.decision.reason}", 418

    client = app.test_client()
    assert [client.get("/search", headers={"X-User": "cy"}).status_code for _ in range(4)] == [200, 200, 200, 418]
    response = client.get("/search")
    assert (response.status_code, response.text) == (418, "no: unauthenticated")


def test_statuses_are_those_of_the_mapping() -> None:
    client = make_app("memory:", Quotas(mapping=Mapping(statuses={"quota_exhausted": 402}))).test_client()
    assert [client.get("/search", headers=ANA).status_code for _ in range(4)] == [200, 200, 200, 402]


def test_commands_show_plans_usage_and_who_changed_what(app: Flask, client: FlaskClient) -> None:
    client.get("/search", headers=ANA)
    quota_of(app).acting_as("root").subscribe("ana", "pro")
    runner = app.test_cli_runner()
    assert "free: searches 3/day, tokens 1000/day" in runner.invoke(args=["quotum", "plans"]).output
    usage = runner.invoke(args=["quotum", "usage", "ana"]).output
    assert "ana is on plan pro" in usage
    assert "searches: 1 used, 0 held, 50 a day" in usage
    audit = runner.invoke(args=["quotum", "audit", "--subject", "ana"]).output
    assert "subscription_changed ana by root" in audit


def test_a_configuration_that_lacks_something_names_it() -> None:
    with pytest.raises(RuntimeError, match="QUOTUM_URL"):
        Quotas(Flask(__name__))
