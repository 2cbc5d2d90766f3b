"""quotum.django: views of both kinds, by Django's test clients."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["testserver"],
    INSTALLED_APPS=["quotum.django"],
    LOGGING_CONFIG=None,
    MIDDLEWARE=["quotum.django.QuotaMiddleware"],
    QUOTUM={"URL": "memory:", "PLANS": {"default_plan": "free", "plans": {"free": {}}}},
    ROOT_URLCONF=__name__,
    SECRET_KEY="of tests",
)
django.setup()

from django.core.checks import run_checks  # noqa: E402
from django.core.exceptions import ImproperlyConfigured  # noqa: E402
from django.http import Http404, HttpResponse, StreamingHttpResponse  # noqa: E402
from django.test import AsyncClient, Client, override_settings  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils.decorators import method_decorator  # noqa: E402
from django.views import View  # noqa: E402

import quotum  # noqa: E402
from quotum import ManualClock  # noqa: E402
from quotum import django as quotas  # noqa: E402

PLANS = quotum.Plans.from_toml("""
default_plan = "free"
rates = { login = "2/minute" }

[plans.free]
features = { excel = false, history_days = 30 }
quotas = { searches = "3/day", tokens = "1000/day" }
rates = { api = "100/minute" }

[plans.pro]
rank = 1
features = { excel = true, history_days = 365 }
quotas = { searches = "50/day", tokens = "100000/day" }
rates = { api = "100/minute" }
""")
NOON = datetime(2026, 1, 15, 12, tzinfo=timezone.utc)
ANA = {"authorization": "Bearer key-of-ana"}


def verify(token: str) -> str | None:
    return token.removeprefix("key-of-") if token.startswith("key-of-") else None


def ask(request: Any) -> quotas.Ask | None:
    if not request.path.startswith("/api/"):
        return None
    return quotas.Ask(token=quotas.token(request), rate="api", searches=1)


def x_user(request: Any) -> str | None:
    user: str | None = request.headers.get("x-user")
    return user


async def async_x_user(request: Any) -> str | None:
    return x_user(request)


def plain(request: Any) -> HttpResponse:
    decision = getattr(request, "quotum", None)
    return HttpResponse(f"for {decision.subject}" if decision else "for nobody")


async def async_plain(request: Any) -> HttpResponse:
    return plain(request)


def failing(request: Any) -> HttpResponse:
    if request.path == "/api/missing":
        raise Http404
    quotas.engine().require("ana", "excel").raise_for_denied()
    return HttpResponse("never")


def streamed(request: Any, prompt: str) -> StreamingHttpResponse:
    if prompt == "refuse":
        raise RuntimeError("not that")
    reservation = request.quotum_reservation

    def answer() -> Iterator[str]:
        yield f"{tokens().held} held, "
        if prompt == "fail":
            raise RuntimeError("the model broke")
        if prompt != "forget":
            reservation.commit(tokens=120)
        yield "done"

    return StreamingHttpResponse(answer())


async def async_streamed(request: Any, prompt: str) -> StreamingHttpResponse:
    reservation = request.quotum_reservation

    async def answer() -> AsyncIterator[str]:
        yield f"{tokens().held} held, "
        if prompt != "forget":
            await reservation.commit(tokens=120)
        yield "done"

    return StreamingHttpResponse(answer())


def days(request: Any) -> int:
    return int(request.GET.get("days", 7))


@method_decorator(quotas.consume(searches=1), name="dispatch")
class Search(View):  # type: ignore[misc, unused-ignore]
    def get(self, request: Any) -> HttpResponse:
        return plain(request)


def both(prefix: str, decorate: Callable[[Any], Any], view: Any, async_view: Any) -> list[Any]:
    """The same for a view and for a coroutine function's."""
    return [path(prefix, decorate(view)), path(f"async-{prefix}", decorate(async_view))]


urlpatterns = [
    path("api/search", plain),
    path("api/async-search", async_plain),
    path("api/missing", failing),
    path("api/inner", quotas.require("history_days", 1)(plain)),
    path("health", plain),
    path("by-hand", failing),
    path("class", Search.as_view()),
    *both("search", quotas.admit(rate="api", searches=1), plain, async_plain),
    *both("excel", quotas.require("excel"), plain, async_plain),
    *both("history", quotas.require("history_days", days), plain, async_plain),
    *both("login", quotas.rate("login", quotas.address), plain, async_plain),
    *both("mistaken", quotas.consume(serches=1), plain, async_plain),
    *both("chat/<prompt>", quotas.reserve(tokens=600, ttl=60), streamed, async_streamed),
]

Get = Callable[..., Any]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture(autouse=True)
def configured(tmp_path: Path, clock: ManualClock) -> Iterator[dict[str, Any]]:
    ours = {
        "URL": f"sqlite:{tmp_path}/quota.db",
        "PLANS": PLANS,
        "OPTIONS": {"verifier": f"{__name__}.verify", "clock": clock},
        "ASK": f"{__name__}.ask",
        "TRUSTED_HOPS": 1,
    }
    with override_settings(QUOTUM=ours):
        yield ours
        quotas.engine().close()


def sync_get(url: str, headers: dict[str, str] = ANA) -> Any:
    return Client(raise_request_exception=False).get(url, headers=headers)


def async_get(url: str, headers: dict[str, str] = ANA) -> Any:
    async def get() -> Any:
        return await AsyncClient(raise_request_exception=False).get(url, headers=headers)

    return asyncio.run(get())


@pytest.fixture(params=["", "async-"])
def prefix(request: pytest.FixtureRequest) -> str:
    """That of the view's name: each test is of both kinds of views."""
    kind: str = request.param
    return kind


@pytest.fixture(params=[sync_get, async_get], ids=["wsgi", "asgi"])
def get(request: pytest.FixtureRequest) -> Get:
    """Asks by both kinds of handlers."""
    function: Get = request.param
    return function


def tokens() -> quotum.QuotaState:
    return next(state for state in quotas.engine().usage("ana").quotas if state.metric == "tokens")


def wait_until_nothing_is_held() -> None:
    until = time.monotonic() + 10
    while tokens().held:
        assert time.monotonic() < until, "what was reserved is held for ever"
        time.sleep(0.01)


def told(response: Any) -> list[str]:
    return [item.split(";")[0] for item in response.headers["RateLimit"].split(", ")]


@pytest.mark.parametrize("where", ["", "api/"])
def test_the_limit_passes_and_the_first_denial_says_everything(get: Get, prefix: str, where: str) -> None:
    url = f"/{where}{prefix}search"
    first = get(url)
    assert (first.status_code, first.content) == (200, b"for ana")
    assert first.headers["RateLimit-Policy"] == '"api/60s";q=100;w=60, "searches/day";q=3;qu="searches"'
    assert first.headers["RateLimit"] == '"api/60s";r=99;t=1, "searches/day";r=2;t=43200'
    assert [get(url).status_code for _ in range(2)] == [200, 200]
    denied = get(url)
    assert (denied.status_code, denied.headers["Retry-After"]) == (429, "43200")
    assert denied.headers["Content-Type"] == "application/problem+json"
    problem = json.loads(denied.content)
    assert (problem["reason"], problem["upgrade_to"]) == ("quota_exhausted", "pro")


def test_of_a_burst_at_the_edge_exactly_the_limit_passes() -> None:
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(sync_get("/search").status_code)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 3 + [429] * 17


def test_of_a_burst_of_tasks_exactly_the_limit_passes() -> None:
    async def burst() -> list[int]:
        client = AsyncClient()
        responses = await asyncio.gather(*(client.get("/async-search", headers=ANA) for _ in range(20)))
        return [response.status_code for response in responses]

    assert sorted(asyncio.run(burst())) == [200] * 3 + [429] * 17


def test_the_next_period_and_another_plan_give_more(get: Get, clock: ManualClock) -> None:
    assert [get("/search").status_code for _ in range(4)] == [200, 200, 200, 429]
    clock.advance(timedelta(hours=12))
    assert get("/search").headers["RateLimit"].endswith('"searches/day";r=2;t=86400')
    quotas.engine().subscribe("ana", "pro")
    assert get("/search").headers["RateLimit"].endswith('"searches/day";r=48;t=86400')


def test_what_asks_for_nothing_passes_as_it_came(get: Get) -> None:
    response = get("/health")
    assert (response.content, "RateLimit" in response.headers) == (b"for nobody", False)


def test_nobody_is_let_in_who_is_not_known(get: Get, prefix: str) -> None:
    for url in (f"/{prefix}search", f"/api/{prefix}search"):
        without = get(url, headers={})
        assert (without.status_code, without.headers["WWW-Authenticate"]) == (401, "Bearer")
        guessed = get(url, headers={"x-api-key": "guessed"})
        assert guessed.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_a_feature_and_as_much_of_it_as_is_asked_for_is_required(get: Get, prefix: str) -> None:
    denied = get(f"/{prefix}excel")
    assert (denied.status_code, json.loads(denied.content)["upgrade_to"]) == (403, "pro")
    assert get(f"/{prefix}history?days=30").status_code == 200
    assert get(f"/{prefix}history?days=90").status_code == 403


def test_logins_are_limited_by_what_the_trusted_proxy_saw(get: Get, prefix: str) -> None:
    lines = ("203.0.113.7", "1.2.3.4, 203.0.113.7", "5.6.7.8, 203.0.113.7", "203.0.113.8")
    statuses = [get(f"/{prefix}login", headers={"x-forwarded-for": line}).status_code for line in lines]
    assert statuses == [200, 200, 429, 200]


def test_layers_within_layers_and_every_status_tell_of_their_limits(get: Get) -> None:
    quotas.engine().subscribe("ana", "pro")
    assert told(get("/api/inner")) == ['"api/60s"', '"searches/day"']
    missing = get("/api/missing")
    assert (missing.status_code, told(missing)) == (404, ['"api/60s"', '"searches/day"'])


def test_fields_that_are_there_are_kept_and_lists_are_added_to(configured: dict[str, Any]) -> None:
    ours = {**configured, "FIELDS": "both", "ASK": lambda request: quotas.Ask("ana", rate="api")}
    with override_settings(QUOTUM=ours):
        response = sync_get("/class")
        assert told(response) == ['"searches/day"', '"api/60s"']
        assert response.headers["X-RateLimit-Limit"] == "3"


def test_a_denial_that_a_view_raises_itself_is_answered_too(get: Get) -> None:
    denied = get("/by-hand")
    assert (denied.status_code, json.loads(denied.content)["reason"]) == (403, "feature_not_in_plan")


def test_what_is_reserved_is_held_while_the_answer_streams_and_then_committed() -> None:
    response = Client().get("/chat/hello", headers=ANA)
    assert response.getvalue() == b"600 held, done"
    assert response.headers["RateLimit"] == '"tokens/day";r=400;t=43200'
    assert (tokens().used, tokens().held) == (120, 0)


def test_a_coroutine_commits_while_its_answer_streams() -> None:
    async def chat(prompt: str) -> bytes:
        response = await AsyncClient().get(f"/async-chat/{prompt}", headers=ANA)
        return b"".join([part async for part in response])

    assert asyncio.run(chat("hello")) == b"600 held, done"
    assert (tokens().used, tokens().held) == (120, 0)
    assert asyncio.run(chat("forget")) == b"600 held, done"
    wait_until_nothing_is_held()
    assert tokens().used == 120


def test_what_is_not_committed_is_given_back() -> None:
    client = Client(raise_request_exception=False)
    assert client.get("/chat/forget", headers=ANA).getvalue() == b"600 held, done"
    wait_until_nothing_is_held()
    assert client.get("/chat/refuse", headers=ANA).status_code == 500
    wait_until_nothing_is_held()
    with pytest.raises(RuntimeError, match="the model broke"):
        client.get("/chat/fail", headers=ANA).getvalue()
    wait_until_nothing_is_held()
    assert tokens().used == 0


def test_a_client_that_goes_away_leaves_nothing_held() -> None:
    response = Client().get("/chat/hello", headers=ANA)
    assert next(iter(response)) == b"600 held, "
    # As a server does when it cannot send.
    response.close()
    wait_until_nothing_is_held()
    assert tokens().used == 0


def test_a_store_that_fails_is_503_and_never_429(get: Get, prefix: str, configured: dict[str, Any]) -> None:
    def subscription(subject: str) -> None:
        raise RuntimeError("db-7.internal is down")

    options = {**configured["OPTIONS"], "subscriptions": subscription, "breaker": False}
    with override_settings(QUOTUM={**configured, "OPTIONS": options}):
        for url in (f"/{prefix}search", f"/api/{prefix}search"):
            response = get(url)
            assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
            assert b"db-7" not in response.content


def test_a_mistake_of_the_backend_is_500_that_says_nothing_and_is_logged(
    get: Get, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    response = get(f"/{prefix}mistaken")
    assert (response.status_code, b"searches" in response.content) == (500, False)
    [record] = [record for record in caplog.records if record.name == "quotum"]
    assert (record.levelno, "serches" in record.getMessage()) == (logging.ERROR, True)


@pytest.mark.parametrize("subject", ["x_user", "async_x_user"])
def test_the_backend_may_say_itself_who_asks(get: Get, prefix: str, subject: str, configured: dict[str, Any]) -> None:
    ours = {**configured, "SUBJECT": f"{__name__}.{subject}", "STATUSES": {"quota_exhausted": 402}}
    with override_settings(QUOTUM=ours):
        statuses = [get(f"/{prefix}search", headers={"x-user": "cy"}).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 402]
        assert get(f"/{prefix}search", headers={}).status_code == 401


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        (None, "QUOTUM is None"),
        ({"URL": "memory:"}, "QUOTUM['PLANS'] is missing"),
        ({"PLANS": {}}, "QUOTUM['URL'] is missing"),
        ({"URL": "memory:", "PLANS": "no-plans.toml"}, "QUOTUM['PLANS']: "),
        ({"URL": "memory:", "PLANS": {}, "URLS": 1}, "'URLS'"),
        ({"URL": "memory:", "PLANS": {}, "ASK": "shop.quotas.ask"}, "QUOTUM['ASK'] is 'shop.quotas.ask'"),
        ({"URL": "memory:", "PLANS": {}, "SUBJECT": 7}, "QUOTUM['SUBJECT'] is 7"),
        ({"URL": "memory:", "PLANS": {}, "STATUSES": {"quota_exhausted": 200}}, "QUOTUM['STATUSES']"),
        ({"URL": "memory:", "PLANS": {}, "FIELDS": "some"}, "QUOTUM['FIELDS']"),
        ({"URL": "memory:", "PLANS": {}, "TRUSTED_HOPS": "one"}, "QUOTUM['TRUSTED_HOPS'] is 'one'"),
        ({"URL": "memory:", "PLANS": {}, "OPTIONS": {"verifier": "no.verifier"}}, "QUOTUM['OPTIONS']['verifier']"),
        ({"QUOTA": "quotum.http.nothing"}, "QUOTUM['QUOTA']"),
    ],
)
def test_a_check_names_the_setting_that_is_wrong(setting: Any, named: str) -> None:
    with override_settings(QUOTUM=setting):
        [error] = run_checks(tags=["quotum"])
        assert error.id == "quotum.E001"
        assert named in error.msg
        with pytest.raises(ImproperlyConfigured):
            quotas.engine()


def test_a_check_of_right_settings_finds_nothing() -> None:
    assert run_checks(tags=["quotum"]) == []


def test_an_engine_may_be_opened_by_the_backend() -> None:
    with quotum.Quota.open("memory:", plans=PLANS, verifier=verify) as quota:
        for given in (quota, lambda: quota):
            with override_settings(QUOTUM={"QUOTA": given}):
                assert quotas.engine() is quota
                assert sync_get("/search").content == b"for ana"
