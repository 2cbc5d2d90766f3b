"""The running backend over HTTP: what its users, its administrators and its operators see."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sqlite3
import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
import running
from quotum import ManualClock
from tender_search.app import create_app
from tender_search.settings import Settings
from tender_search.tenders import Portal, PortalDown, Query, Tender, made_up_portal

# Noon in São Paulo, three days before the month ends there.
NOON = datetime(2026, 3, 29, 15, tzinfo=timezone.utc)
ADMIN = {"x-admin-token": "s3cret"}


class Backend:
    """The backend as a client sees it."""

    def __init__(self, address: str) -> None:
        self.http = httpx.Client(base_url=address, timeout=30)
        self._proxied = (f"10.0.0.{host}" for host in itertools.count(1))

    def register(self, user: str) -> httpx.Headers:
        """A new user's header fields; each registers from an address of its own."""
        response = self.http.post(
            "/api/register", json={"user": user}, headers={"x-forwarded-for": next(self._proxied)}
        )
        assert response.status_code == 201, response.text
        return httpx.Headers({"authorization": f"Bearer {response.json()['key']}"})

    def search(self, user: httpx.Headers, days: int = 7, text: str = "bridges") -> httpx.Response:
        return self.http.post("/api/search", json={"text": text, "days": days}, headers=user)

    def excel(self, user: httpx.Headers, id: str) -> httpx.Response:
        return self.http.get(f"/api/search/{id}/excel", headers=user)

    def me(self, user: httpx.Headers) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/api/me", headers=user).raise_for_status().json()
        return found

    def searches(self, user: httpx.Headers) -> dict[str, Any]:
        return next(state for state in self.me(user)["quotas"] if state["metric"] == "searches")

    def sell(self, user: str, plan: str, days: int = 30) -> None:
        sale = {"plan": plan, "days": days}
        self.http.post(f"/api/admin/users/{user}/plan", json=sale, headers=ADMIN).raise_for_status()

    def enforce(self, mode: str) -> None:
        self.http.post("/api/admin/enforcement", json={"mode": mode}, headers=ADMIN).raise_for_status()

    def burst(self, user: httpx.Headers, times: int) -> Counter[int]:
        with ThreadPoolExecutor(times) as pool:
            return Counter(response.status_code for response in pool.map(self.search, [user] * times))


def settings(folder: Path, **changes: Any) -> Settings:
    usual = {"quotum_url": f"sqlite:{folder}/quota.db", "users": folder / "users.db"}
    return Settings(**{**usual, "admin_token": "s3cret", "trusted_hops": 1, **changes})


@contextlib.contextmanager
def served(
    folder: Path, clock: ManualClock | None = None, portal: Portal = made_up_portal, **changes: Any
) -> Iterator[Backend]:
    with running.served(create_app(settings(folder, **changes), portal=portal, clock=clock)) as address:
        backend = Backend(address)
        with backend.http:
            yield backend


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def backend(tmp_path: Path, clock: ManualClock) -> Iterator[Backend]:
    with served(tmp_path, clock) as backend:
        yield backend


def search_all(backend: Backend, clock: ManualClock, user: httpx.Headers, times: int) -> None:
    """Search no faster than any plan allows."""
    for _ in range(times):
        assert backend.search(user).status_code == 200
        clock.advance(30)


def test_the_free_week_has_three_searches_and_then_an_offer(backend: Backend, clock: ManualClock) -> None:
    ana = backend.register("ana")
    first = backend.search(ana)
    assert (first.status_code, first.json()["searches_left"]) == (200, 2)
    assert first.json()["tenders"] == [{"title": "bridges, lot 1", "days_ago": 0}]
    assert first.headers["ratelimit-policy"] == '"api/60s";q=2;w=60, "searches/month";q=3;qu="searches"'
    assert first.headers["ratelimit"] == '"api/60s";r=1;t=30, "searches/month";r=2;t=216000'

    backend.search(ana)
    clock.advance(60)
    assert backend.search(ana).json()["searches_left"] == 0

    denied = backend.search(ana)
    assert denied.status_code == 403
    assert denied.headers["content-type"] == "application/problem+json"
    assert denied.headers["retry-after"] == "215940"
    assert '"searches/month";r=0;t=215940' in denied.headers["ratelimit"]
    problem = denied.json()
    assert (problem["reason"], problem["limit"], problem["used"]) == ("quota_exhausted", 3, 3)
    assert (problem["resets_at"], problem["upgrade_to"]) == ("2026-04-01T03:00:00Z", "consultor_agil")
    assert backend.searches(ana)["used"] == 3


def test_faster_than_the_plan_is_429_and_costs_no_search(backend: Backend) -> None:
    ana = backend.register("ana")
    assert [backend.search(ana).status_code for _ in range(2)] == [200, 200]
    denied = backend.search(ana)
    assert (denied.status_code, denied.headers["retry-after"]) == (429, "30")
    assert (denied.json()["reason"], denied.json()["scope"]) == ("rate_limited", "api")
    assert backend.searches(ana)["used"] == 2


def test_of_a_burst_at_the_edge_exactly_the_limit_passes(backend: Backend, clock: ManualClock) -> None:
    ana = backend.register("ana")
    backend.sell("ana", "consultor_agil")
    search_all(backend, clock, ana, 45)
    clock.advance(60)
    # Ten a minute, of which five are left for the month.
    assert backend.burst(ana, 40) == {200: 5, 403: 5, 429: 30}
    assert (backend.searches(ana)["used"], backend.searches(ana)["held"]) == (50, 0)


def test_tabs_that_search_at_once_do_not_search_for_free(tmp_path: Path, clock: ManualClock) -> None:
    asked = 0

    async def slow(query: Query) -> list[Tender]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.5)
        return await made_up_portal(query)

    with served(tmp_path, clock, slow) as backend:
        ana = backend.register("ana")
        search_all(backend, clock, ana, 1)
        clock.advance(60)
        backend.search(ana)
        clock.advance(60)
        assert backend.burst(ana, 8) == {200: 1, 403: 1, 429: 6}
    assert asked == 3


def test_the_month_of_a_trial_ends_at_midnight_in_sao_paulo(backend: Backend, clock: ManualClock) -> None:
    ana = backend.register("ana")
    search_all(backend, clock, ana, 3)
    clock.set_wall(datetime(2026, 4, 1, 2, 59, tzinfo=timezone.utc))
    assert backend.search(ana).status_code == 403
    clock.advance(60)
    assert backend.search(ana).json()["searches_left"] == 2


def test_a_paid_month_is_counted_from_the_purchase(backend: Backend, clock: ManualClock) -> None:
    ana = backend.register("ana")
    backend.sell("ana", "consultor_agil", days=90)
    search_all(backend, clock, ana, 2)
    assert backend.searches(ana)["resets_at"] == "2026-04-29T15:00:00Z"
    clock.set_wall(datetime(2026, 4, 29, 14, 59, tzinfo=timezone.utc))
    assert backend.searches(ana)["used"] == 2
    clock.advance(60)
    assert backend.searches(ana)["used"] == 0


def test_after_the_trial_everything_is_403_with_an_offer(backend: Backend, clock: ManualClock) -> None:
    ana = backend.register("ana")
    search_all(backend, clock, ana, 1)
    assert backend.me(ana)["trial_ends_at"] == "2026-04-05T15:00:00Z"
    clock.advance(timedelta(days=7))
    denied = backend.search(ana)
    assert (denied.status_code, denied.json()["reason"]) == (403, "trial_expired")
    assert (denied.json()["ended_at"], denied.json()["upgrade_to"]) == ("2026-04-05T15:00:00Z", "consultor_agil")
    assert backend.me(ana)["refused"] == "trial_expired"
    backend.sell("ana", "consultor_agil")
    assert backend.search(ana).status_code == 200


def test_what_was_paid_for_ends_after_its_days_and_grace(backend: Backend, clock: ManualClock) -> None:
    ana = backend.register("ana")
    backend.sell("ana", "consultor_agil", days=30)
    clock.advance(timedelta(days=32, hours=23))
    assert backend.search(ana).status_code == 200
    clock.advance(timedelta(hours=2))
    denied = backend.search(ana)
    assert (denied.status_code, denied.json()["reason"]) == (403, "subscription_inactive")


def test_an_upgrade_in_the_middle_of_a_month_holds_at_once_and_keeps_what_was_used(
    backend: Backend, clock: ManualClock
) -> None:
    ana = backend.register("ana")
    backend.sell("ana", "consultor_agil")
    search_all(backend, clock, ana, 50)
    assert backend.search(ana).json()["upgrade_to"] == "maquina"
    clock.advance(timedelta(days=10))
    backend.sell("ana", "maquina")
    assert backend.search(ana).json()["searches_left"] == 300 - 51
    assert backend.searches(ana)["resets_at"] == "2026-04-29T15:00:00Z"
    assert backend.me(ana)["features"]["allow_excel"] is True


def test_a_sheet_is_for_plans_that_have_it(backend: Backend) -> None:
    ana, ben = backend.register("ana"), backend.register("ben")
    id = backend.search(ana).json()["id"]
    denied = backend.excel(ana, id)
    assert (denied.status_code, denied.json()["reason"]) == (403, "feature_not_in_plan")
    assert (denied.json()["feature"], denied.json()["upgrade_to"]) == ("allow_excel", "maquina")

    backend.sell("ana", "maquina")
    sheet = backend.excel(ana, id)
    assert (sheet.status_code, sheet.text) == (200, 'title,days ago\r\n"bridges, lot 1",0\r\n')
    assert '"exports/day";r=19' in sheet.headers["ratelimit"]
    assert backend.excel(ana, "no-such-search").status_code == 404
    assert backend.excel(ben, id).status_code == 404
    assert '"exports/day";r=18' in backend.excel(ana, id).headers["ratelimit"], "what is not found is not counted"


def test_history_is_as_long_as_the_plan_says(backend: Backend) -> None:
    ana = backend.register("ana")
    denied = backend.search(ana, days=8)
    assert (denied.status_code, denied.json()["reason"]) == (403, "feature_value_exceeded")
    assert (denied.json()["feature_requested"], denied.json()["feature_granted"]) == (8, 7)
    assert denied.json()["upgrade_to"] == "consultor_agil"
    assert backend.searches(ana)["used"] == 0
    backend.sell("ana", "sala_guerra", days=366)
    assert len(backend.search(ana, days=1825).json()["tenders"]) == 261
    assert backend.search(ana, days=1826).json().get("upgrade_to") is None


def test_a_search_that_fails_is_not_counted(tmp_path: Path, clock: ManualClock) -> None:
    async def portal(query: Query) -> list[Tender]:
        if query.text == "nothing":
            raise PortalDown
        return await made_up_portal(query)

    with served(tmp_path, clock, portal) as backend:
        ana = backend.register("ana")
        search_all(backend, clock, ana, 1)
        failed = backend.search(ana, text="nothing")
        assert (failed.status_code, backend.searches(ana)["used"]) == (502, 1)
        backend.enforce("off")
        assert backend.search(ana, text="nothing").status_code == 502
        backend.enforce("enforce")
        assert backend.searches(ana)["used"] == 1, "what was not charged is not given back"


def test_a_store_that_is_down_is_503_and_never_429(tmp_path: Path) -> None:
    with served(tmp_path, store_timeout_s=0.2) as backend:
        ana = backend.register("ana")
        backend.sell("ana", "maquina")
        assert backend.search(ana).status_code == 200
        with running.locked(tmp_path / "quota.db"):
            for _ in range(5):
                down = backend.search(ana)
                assert down.status_code == 503
                assert down.json()["reason"] == "store_unavailable"
                assert int(down.headers["retry-after"]) >= 1
                assert str(tmp_path) not in down.text
    with served(tmp_path) as backend:
        assert backend.search(ana).status_code == 200


def test_keys_that_begin_alike_are_those_of_different_users(backend: Backend) -> None:
    ana, ben = backend.register("ana"), backend.register("ben")
    assert ana["authorization"][:40] == ben["authorization"][:40]
    for _ in range(2):
        assert backend.me(ana)["subject"] == "ana"
        assert backend.me(ben)["subject"] == "ben"
    guessed = httpx.Headers({"authorization": ana["authorization"][:-1] + "?"})
    assert backend.search(guessed).status_code == 401
    assert backend.search(httpx.Headers()).headers["www-authenticate"] == "Bearer"


def test_a_key_that_is_revoked_is_refused_at_once(backend: Backend) -> None:
    ana = backend.register("ana")
    assert backend.search(ana).status_code == 200
    assert backend.http.delete("/api/key", headers=ana).status_code == 204
    assert backend.search(ana).status_code == 401


def test_keys_are_given_slowly_to_one_address(backend: Backend) -> None:
    def register(user: str, forwarded_for: str) -> int:
        headers = {"x-forwarded-for": forwarded_for}
        return backend.http.post("/api/register", json={"user": user}, headers=headers).status_code

    statuses = [register(f"user-{number}", f"198.51.100.{number}, 203.0.113.7") for number in range(3)]
    assert statuses == [201, 201, 429], "what a client says of itself does not count, only what our proxy has seen"
    assert register("user-0", "203.0.113.8") == 409


def test_plans_are_public_and_the_cheapest_is_first(backend: Backend) -> None:
    listed = backend.http.get("/api/plans").json()
    plans = {plan["id"]: plan for plan in listed["plans"]}
    assert list(plans) == ["free_trial", "consultor_agil", "maquina", "sala_guerra"]
    assert listed["total"] == 4
    assert plans["consultor_agil"]["name"] == "Consultor Ágil"
    assert plans["consultor_agil"]["prices"] == {"monthly": "BRL 297.00", "annual": "BRL 2851.00"}
    assert plans["sala_guerra"]["features"]["max_history_days"] == 1825


def test_an_account_page_shows_everything(backend: Backend) -> None:
    ana = backend.register("ana")
    backend.search(ana)
    me = backend.me(ana)
    assert (me["subject"], me["plan"], me["plan_name"], me["status"]) == (
        "ana",
        "free_trial",
        "Teste grátis",
        "trialing",
    )
    assert me["features"] == {"allow_excel": False, "max_history_days": 7, "max_summary_tokens": 200, "priority": "low"}
    [searches] = me["quotas"]
    assert (searches["used"], searches["remaining"], searches["resets_at"]) == (1, 2, "2026-04-01T03:00:00Z")


def test_enforcement_is_switched_while_the_backend_runs_and_audited(backend: Backend) -> None:
    ana = backend.register("ana")
    assert [backend.search(ana).status_code for _ in range(3)] == [200, 200, 429]
    backend.enforce("off")
    assert backend.search(ana, days=365).json()["searches_left"] is None
    backend.enforce("enforce")
    assert backend.search(ana).status_code == 429
    assert backend.searches(ana)["used"] == 2
    events = backend.http.get("/api/admin/audit", headers=ADMIN).json()
    switches = [(event["actor"], event["detail"]) for event in events if event["name"] == "enforcement_changed"]
    assert [actor for actor, _ in switches] == ["admin", "admin"]
    assert backend.http.get("/api/admin/audit").status_code == 403
    assert backend.http.post("/api/admin/users/ana/plan", json={"plan": "maquina"}).status_code == 403


def test_the_kill_switch_of_the_environment_outweighs_what_was_switched_before(tmp_path: Path) -> None:
    with served(tmp_path) as backend:
        ana = backend.register("ana")
        backend.enforce("enforce")
    with served(tmp_path, check_disabled=True) as backend:
        assert [backend.search(ana, days=365).status_code for _ in range(5)] == [200] * 5
        assert backend.searches(ana)["used"] == 0
        backend.enforce("enforce")
        assert backend.search(ana, days=365).status_code == 403


def test_prometheus_reads_decisions_without_users(backend: Backend) -> None:
    ana = backend.register("ana")
    backend.search(ana)
    metrics = backend.http.get("/metrics")
    assert metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert 'quotum_decisions_total{verb="admit",outcome="allowed",reason="",plan="free_trial"} 1' in metrics.text
    assert "ana" not in metrics.text


@contextlib.contextmanager
def started(folder: Path) -> Iterator[tuple[Backend, subprocess.Popen[bytes]]]:
    """The backend in a process of its own."""
    url, users = f"sqlite:{folder}/quota.db", str(folder / "users.db")
    environment = {"QUOTUM_URL": url, "USERS": users, "ADMIN_TOKEN": "s3cret", "TRUSTED_HOPS": "1"}
    home = Path(__file__).parent
    with running.running("tender_search", environment, home=home, log=folder / "log") as (address, process):
        backend = Backend(address)
        with backend.http:
            yield backend, process


def test_what_was_used_survives_a_process_that_is_killed(tmp_path: Path) -> None:
    with started(tmp_path) as (backend, process):
        ana = backend.register("ana")
        assert [backend.search(ana).status_code for _ in range(2)] == [200, 200]
        process.kill()
        process.wait()
    with started(tmp_path) as (backend, _):
        assert backend.searches(ana)["used"] == 2
        assert [backend.search(ana).status_code for _ in range(2)] == [200, 403]


def test_the_log_has_the_names_that_the_dashboards_know_and_no_keys(tmp_path: Path) -> None:
    with started(tmp_path) as (backend, _):
        ana = backend.register("ana")
        backend.search(ana, days=90)
        id = backend.search(ana).json()["id"]
        backend.search(ana)
        backend.excel(ana, id)
        backend.sell("ana", "maquina")
        backend.excel(ana, id)
    text = (tmp_path / "log").read_text()
    lines = {line["event"]: line for line in map(json.loads, text.splitlines())}
    assert {"quota_check_success", "history_range_blocked", "rate_limit_check"} <= lines.keys()
    assert {"excel_blocked", "excel_generated", "subscription_changed"} <= lines.keys()
    blocked = lines["excel_blocked"]
    assert (blocked["user_id"], blocked["plan_id"], blocked["upgrade_suggestion"]) == ("ana", "free_trial", "maquina")
    assert blocked["duration_us"] > 0
    assert lines["quota_check_success"].keys() >= {"quota_used", "quota_limit", "quota_remaining", "quota_reset_date"}
    assert ana["authorization"].split(".")[1] not in text
    with contextlib.closing(sqlite3.connect(tmp_path / "users.db")) as users:
        assert ana["authorization"].split(".")[1] not in "".join(users.iterdump())


@pytest.mark.parametrize("store", ["sqlite", "postgres", "redis"])
def test_every_store_serves_the_same_backend(store: str, tmp_path: Path) -> None:
    stores = {"postgres": running.postgres, "redis": running.redis}
    # A server that somebody has named is not empty.
    user = f"ana-{uuid.uuid4().hex[:8]}"
    with stores[store]() if store in stores else contextlib.nullcontext(f"sqlite:{tmp_path}/quota.db") as url:
        with served(tmp_path, quotum_url=url) as backend:
            ana = backend.register(user)
            assert backend.search(ana).json()["searches_left"] == 2
            assert backend.excel(ana, backend.search(ana).json()["id"]).json()["upgrade_to"] == "maquina"
        with served(tmp_path, quotum_url=url) as backend:
            assert backend.burst(ana, 8) == {200: 1, 403: 1, 429: 6}
            backend.sell(user, "consultor_agil")
            assert (backend.searches(ana)["limit"], backend.searches(ana)["used"]) == (50, 0)
