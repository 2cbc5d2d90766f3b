"""The running backend over HTTP: what its users see, and what is left of a reservation however an answer ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
import running
from chat_assistant.app import create_app
from chat_assistant.model import Model, ModelFailed, echo
from chat_assistant.settings import Settings
from quotum import ManualClock

NOON = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
KEYS = {"key-of-ana": "ana", "key-of-ben": "ben"}


class Chatter:
    """A user, as the backend sees one."""

    def __init__(self, address: str, key: str = "key-of-ana") -> None:
        self.http = httpx.Client(base_url=address, headers={"x-api-key": key}, timeout=30)

    def say(self, prompt: str = "hello", tokens_max: int = 10) -> httpx.Response:
        return self.http.post("/api/chat", json={"prompt": prompt, "tokens_max": tokens_max})

    def burst(self, times: int) -> Counter[int]:
        with ThreadPoolExecutor(times) as pool:
            return Counter(response.status_code for response in pool.map(lambda _: self.say(), range(times)))

    def quota(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/api/quota").raise_for_status().json()
        return found

    def today(self) -> dict[str, Any]:
        found: dict[str, Any] = self.quota()["quotas"]["messages"]["day"]
        return found

    def tokens(self) -> dict[str, Any]:
        found: dict[str, Any] = self.quota()["quotas"]["tokens"]["month"]
        return found

    def upgrade(self, tier: str) -> httpx.Response:
        return self.http.post("/api/upgrade", json={"tier": tier})

    @contextlib.contextmanager
    def first_word_of(self, tokens_max: int) -> Iterator[None]:
        """An answer under way: the client goes away at the end of the block."""
        message = {"prompt": "hello", "tokens_max": tokens_max}
        with self.http.stream("POST", "/api/chat", json=message) as response:
            lines = response.iter_lines()
            assert next(lines) == "event: word"
            yield

    def wait_until_nothing_is_held(self) -> None:
        """What is neither used nor remaining is held."""
        until = time.monotonic() + 20
        while (tokens := self.tokens())["remaining"] + tokens["used"] != tokens["limit"]:
            assert time.monotonic() < until, "a reservation is held for ever"
            time.sleep(0.05)


def events_of(response: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    """The server-sent events of an answer."""
    parts = [part.split("\n") for part in response.text.split("\n\n") if part]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in parts]


@contextlib.contextmanager
def served(
    folder: Path, clock: ManualClock | None = None, model: Model | None = None, **changes: Any
) -> Iterator[Chatter]:
    settings = Settings(**{"quotum_url": f"sqlite:{folder}/quota.db", "keys": KEYS, **changes})
    with running.served(create_app(settings, model=model, clock=clock)) as address:
        chatter = Chatter(address)
        with chatter.http:
            yield chatter


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def ana(tmp_path: Path, clock: ManualClock) -> Iterator[Chatter]:
    with served(tmp_path, clock) as ana:
        yield ana


def test_an_answer_is_streamed_and_charged_by_what_it_took(ana: Chatter) -> None:
    answered = ana.say("how are you", tokens_max=4)
    assert answered.headers["content-type"].startswith("text/event-stream")
    words = [data["text"] for name, data in events_of(answered) if name == "word"]
    assert words == ["how", "are", "you", "how"]
    assert events_of(answered)[-1] == (
        "done",
        {"consumed": {"messages": 1, "tokens": 7}, "overage": {"messages": 0, "tokens": 0}},
    )
    assert answered.headers["ratelimit-policy"].startswith('"messages/day";q=5;qu="messages", "messages/month";q=150')
    assert '"messages/day";r=4;t=43200' in answered.headers["ratelimit"]
    assert ana.quota()["quotas"] == {
        "messages": {
            "day": {"limit": 5, "used": 1, "remaining": 4, "resets_at": "2026-03-11T00:00:00Z"},
            "month": {"limit": 150, "used": 1, "remaining": 149, "resets_at": "2026-04-01T00:00:00Z"},
        },
        "tokens": {"month": {"limit": 20_000, "used": 7, "remaining": 19_993, "resets_at": "2026-04-01T00:00:00Z"}},
    }


def test_after_the_last_message_of_a_day_the_next_is_429_with_the_details(ana: Chatter) -> None:
    assert [ana.say().status_code for _ in range(5)] == [200] * 5
    denied = ana.say()
    assert denied.status_code == 429
    assert denied.headers["content-type"] == "application/problem+json"
    assert denied.headers["retry-after"] == "43200"
    problem = denied.json()
    assert (problem["reason"], problem["metric"], problem["period"]) == ("quota_exhausted", "messages", "day")
    assert (problem["limit"], problem["used"], problem["resets_at"]) == (5, 5, "2026-03-11T00:00:00Z")
    assert problem["upgrade_to"] == "pro"
    quota = ana.quota()
    assert (quota["can_send_message"], quota["is_quota_exceeded"], quota["needs_upgrade"]) == (False, True, True)
    assert ana.tokens()["used"] == 5 * 11, "a denied message costs no tokens"
    assert Chatter(str(ana.http.base_url), "key-of-ben").say().status_code == 200
    assert Chatter(str(ana.http.base_url), "key-of-nobody").say().status_code == 401


def test_a_user_is_warned_from_80_percent_on(ana: Chatter) -> None:
    assert ["x-quota-warning" in ana.say().headers for _ in range(3)] == [False] * 3
    assert ana.quota()["warning"] == []
    assert ana.say().headers["x-quota-warning"] == "messages/day"
    quota = ana.quota()
    assert (quota["warning"], quota["can_send_message"], quota["needs_upgrade"]) == (["messages/day"], True, False)


def test_of_a_burst_exactly_the_limit_is_answered(tmp_path: Path, clock: ManualClock) -> None:
    with served(tmp_path, clock, echo(0.02)) as ana:
        assert ana.burst(20) == {200: 5, 429: 15}
        assert (ana.today()["used"], ana.tokens()["used"]) == (5, 55)
        ana.wait_until_nothing_is_held()


def test_a_day_starts_afresh_and_a_month_does_not(tmp_path: Path) -> None:
    clock = ManualClock(datetime(2026, 3, 1, 12, tzinfo=timezone.utc))
    with served(tmp_path, clock) as ana:
        for _ in range(30):
            assert [ana.say(tokens_max=1).status_code for _ in range(5)] == [200] * 5
            clock.advance(timedelta(days=1))
        denied = ana.say()
        assert (denied.status_code, denied.json()["period"], denied.json()["limit"]) == (429, "month", 150)
        assert denied.headers["retry-after"] == "43200"
        clock.advance(timedelta(hours=12))
        assert ana.say().status_code == 200
        assert (ana.today()["used"], ana.quota()["quotas"]["messages"]["month"]["used"]) == (1, 1)


def test_an_upgrade_in_the_middle_of_a_day_holds_at_once_and_keeps_what_was_used(ana: Chatter) -> None:
    assert [ana.say().status_code for _ in range(6)] == [200] * 5 + [429]
    upgraded = ana.upgrade("pro")
    assert (upgraded.status_code, upgraded.json()["tier"]) == (200, "pro")
    assert ana.say().status_code == 200
    assert (ana.today()["limit"], ana.today()["used"], ana.tokens()["used"]) == (100, 6, 66)


def test_only_a_visible_tier_above_is_an_upgrade(ana: Chatter) -> None:
    assert ana.upgrade("max").status_code == 200
    for tier in ("free", "max", "enterprise", "no-such-tier"):
        assert ana.upgrade(tier).status_code == 409
    assert ana.quota()["tier"] == "max"


def test_a_client_that_goes_away_costs_nothing(tmp_path: Path, clock: ManualClock) -> None:
    with served(tmp_path, clock, echo(0.02)) as ana:
        with ana.first_word_of(tokens_max=4_000):
            assert (ana.tokens()["used"], ana.tokens()["remaining"]) == (0, 20_000 - 4_001)
            assert ana.today()["remaining"] == 4
        ana.wait_until_nothing_is_held()
        assert (ana.tokens()["used"], ana.today()["used"]) == (0, 0)


@pytest.mark.parametrize("words", [0, 3])
def test_a_model_that_fails_costs_nothing(words: int, tmp_path: Path, clock: ManualClock) -> None:
    async def failing(prompt: str, tokens_max: int) -> AsyncIterator[str]:
        for _ in range(words):
            yield "well"
        raise ModelFailed

    with served(tmp_path, clock, failing) as ana:
        events = events_of(ana.say())
        assert [name for name, _ in events] == ["word"] * words + ["error"]
        assert (ana.tokens()["remaining"], ana.today()["remaining"]) == (20_000, 5)


def test_a_bug_in_the_model_costs_nothing(tmp_path: Path, clock: ManualClock) -> None:
    async def buggy(prompt: str, tokens_max: int) -> AsyncIterator[str]:
        yield "well"
        raise ZeroDivisionError

    with served(tmp_path, clock, buggy) as ana:
        with pytest.raises(httpx.RemoteProtocolError):
            ana.say()
        ana.wait_until_nothing_is_held()
        assert (ana.tokens()["used"], ana.today()["used"]) == (0, 0)


def test_an_answer_that_is_shorter_than_reserved_gives_the_rest_back(tmp_path: Path, clock: ManualClock) -> None:
    async def terse(prompt: str, tokens_max: int) -> AsyncIterator[str]:
        yield "yes"

    with served(tmp_path, clock, terse) as ana:
        answered = ana.say("is it", tokens_max=4_000)
        assert '"tokens/month";r=15998' in answered.headers["ratelimit"]
        assert events_of(answered)[-1][1]["consumed"] == {"messages": 1, "tokens": 3}
        assert (ana.tokens()["used"], ana.tokens()["remaining"]) == (3, 19_997)


def test_an_answer_that_is_longer_than_reserved_is_charged_whole(tmp_path: Path, clock: ManualClock) -> None:
    async def chatty(prompt: str, tokens_max: int) -> AsyncIterator[str]:
        for _ in range(15_000):
            yield "well"

    with served(tmp_path, clock, chatty) as ana:
        assert events_of(ana.say())[-1][1]["overage"]["tokens"] == 0
        assert ana.tokens()["used"] == 15_001
        # The rest did not fit, and is not forgotten.
        assert events_of(ana.say())[-1][1] == {
            "consumed": {"messages": 1, "tokens": 15_001},
            "overage": {"messages": 0, "tokens": 10_002},
        }
        assert (ana.tokens()["used"], ana.tokens()["remaining"]) == (20_000, 0)
        assert ana.say().json()["metric"] == "tokens"


def test_what_does_not_fit_any_more_is_denied_before_the_model_is_asked(ana: Chatter) -> None:
    for _ in range(4):
        assert ana.say(tokens_max=4_000).status_code == 200
    denied = ana.say(tokens_max=4_000)
    assert (denied.status_code, denied.json()["metric"], denied.json()["requested"]) == (429, "tokens", 4_001)
    assert (ana.today()["used"], ana.tokens()["used"]) == (4, 16_004)
    assert ana.say(tokens_max=3_000).status_code == 200
    assert ana.http.post("/api/chat", json={"prompt": " "}).status_code == 422


def test_a_store_that_is_down_is_503_and_never_429(tmp_path: Path) -> None:
    with served(tmp_path, store_timeout_s=0.2) as ana:
        assert ana.say().status_code == 200
        with running.locked(tmp_path / "quota.db"):
            for _ in range(5):
                down = ana.say()
                assert (down.status_code, down.json()["reason"]) == (503, "store_unavailable")
                assert "retry-after" in down.headers


def test_a_store_that_goes_down_meanwhile_does_not_spoil_the_answer(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def waiting(prompt: str, tokens_max: int) -> AsyncIterator[str]:
        yield "well"
        await release.wait()
        yield "well"

    with served(tmp_path, model=waiting, store_timeout_s=0.2, answer_s_max=3) as ana:
        with ana.http.stream("POST", "/api/chat", json={"prompt": "hello"}) as response:
            lines = response.iter_lines()
            assert next(lines) == "event: word"
            with running.locked(tmp_path / "quota.db"):
                release.set()
                assert "event: done" in list(lines)


@contextlib.contextmanager
def started(folder: Path) -> Iterator[tuple[Chatter, subprocess.Popen[bytes]]]:
    """The backend in a process of its own, with a slow model."""
    environment = {
        "QUOTUM_URL": f"sqlite:{folder}/quota.db",
        "CHAT_KEYS": "key-of-ana=ana",
        "MODEL_PAUSE_S": "0.05",
        "ANSWER_S_MAX": "4",
    }
    home = Path(__file__).parent
    with running.running("chat_assistant", environment, home=home, log=folder / "log") as (address, process):
        ana = Chatter(address)
        with ana.http:
            yield ana, process


def test_a_killed_process_forgets_nothing_and_holds_nothing_for_ever(tmp_path: Path) -> None:
    with started(tmp_path) as (ana, process):
        assert ana.say(tokens_max=2).status_code == 200
        with contextlib.suppress(httpx.RemoteProtocolError), ana.first_word_of(tokens_max=4_000):
            process.kill()
            process.wait()
    with started(tmp_path) as (ana, _):
        assert (ana.today()["used"], ana.tokens()["used"]) == (1, 3)
        assert ana.tokens()["remaining"] == 20_000 - 3 - 4_001
        ana.wait_until_nothing_is_held()
        assert (ana.today()["used"], ana.tokens()["used"]) == (1, 3)


def test_tiers_have_names_in_two_languages_and_an_order(ana: Chatter) -> None:
    tiers = ana.http.get("/api/tiers").json()
    assert [(tier["id"], tier["display_order"]) for tier in tiers] == [("free", 0), ("pro", 1), ("max", 2)]
    assert tiers[0]["names"] == {"en": "Free", "fr": "Gratuit"}
    assert tiers[0]["limits"]["messages"] == ["5/day", "150/month"]
    assert tiers[1]["prices"] == {"monthly": "XOF 7000"}
    enterprise = ana.http.get("/api/tiers/enterprise").json()
    assert (enterprise["names"]["fr"], enterprise["is_visible"]) == ("Entreprise", False)
    assert enterprise["limits"]["messages"] == ["unlimited"]
    assert ana.http.get("/api/tiers/no-such-tier").status_code == 404


def test_statistics_tell_what_happened_day_by_day(ana: Chatter, clock: ManualClock) -> None:
    for _ in range(6):
        ana.say()
    clock.advance(timedelta(days=1))
    ana.say()
    ana.upgrade("pro")
    until = time.monotonic() + 10
    while len(days := ana.http.get("/api/usage/stats").json()["days"]) < 2:
        assert time.monotonic() < until, "events are not logged"
        time.sleep(0.05)
    today, yesterday = days
    assert (today["date"], yesterday["date"]) == ("2026-03-11", "2026-03-10")
    assert today["events"]["subscription_changed"] == 1
    assert yesterday["events"] == {"quota_check_success": 5, "quota_threshold_reached": 2, "quota_exhausted": 1}
    clock.advance(timedelta(days=1))
    assert len(ana.http.get("/api/usage/stats?days=1").json()["days"]) == 1


@pytest.mark.parametrize("store", ["sqlite", "postgres", "redis"])
def test_every_store_serves_the_same_backend(store: str, tmp_path: Path) -> None:
    stores = {"postgres": running.postgres, "redis": running.redis}
    # A server that somebody has named is not empty.
    keys = {"key-of-ana": f"ana-{uuid.uuid4().hex[:8]}"}
    with stores[store]() if store in stores else contextlib.nullcontext(f"sqlite:{tmp_path}/quota.db") as url:
        with served(tmp_path, model=echo(0.02), quotum_url=url, keys=keys) as ana:
            assert events_of(ana.say())[-1][1]["consumed"] == {"messages": 1, "tokens": 11}
            with ana.first_word_of(tokens_max=4_000):
                assert ana.tokens()["remaining"] == 20_000 - 11 - 4_001
            ana.wait_until_nothing_is_held()
        with served(tmp_path, quotum_url=url, keys=keys) as ana:
            assert ana.burst(12) == {200: 4, 429: 8}
            assert ana.upgrade("pro").json()["quotas"]["messages"]["day"]["remaining"] == 95
            assert ana.say().status_code == 200
