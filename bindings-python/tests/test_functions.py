"""Functions of the host's: plans, subscriptions, verifiers and listeners that are slow, wrong or raise."""

from __future__ import annotations

import datetime
import pathlib
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

import quotum

PLANS: dict[str, Any] = {
    "default_plan": "free",
    "plans": {
        "free": {"quotas": {"jobs": "1/day"}, "features": {"excel": False}},
        "pro": {"rank": 1, "quotas": {"jobs": "9/day"}, "features": {"excel": True}},
    },
}
NOW = datetime.datetime(2026, 3, 10, 15, tzinfo=datetime.timezone.utc)


def test_plans_and_subscriptions_may_be_the_hosts_own() -> None:
    plans: dict[str, Any] = PLANS
    users = {"ana": "pro"}
    clock = quotum.ManualClock(NOW)
    with quotum.Quota.open("memory:", plans=lambda: plans, subscriptions=users.get, clock=clock) as quota:
        assert quota.consume("ana", jobs=9)
        assert quota.consume("bob", jobs=2).reason == "never_fits"
        plans = {"default_plan": "free", "plans": {"free": {"quotas": {"jobs": "2/day"}}}}
        assert quota.consume("bob", jobs=2).reason == "never_fits"
        quota.clear_catalog()
        assert quota.consume("bob", jobs=2)
        with pytest.raises(quotum.StoreError, match="kept by the host|host"):
            quota.set_plans(plans)


def test_a_subscription_of_the_hosts_may_say_everything() -> None:
    def subscriptions(subject: str) -> quotum.Subscription | None:
        if subject == "late":
            return quotum.Subscription("pro", status="trialing", trial_ends_at=NOW - datetime.timedelta(days=1))
        return quotum.Subscription("free", features={"excel": True}, quotas={"jobs": "5/day"})

    clock = quotum.ManualClock(NOW)
    with quotum.Quota.open("memory:", plans=PLANS, subscriptions=subscriptions, clock=clock) as quota:
        assert quota.require("ana", "excel")
        assert [state.limit for state in quota.usage("ana").quotas] == [5]
        assert quota.consume("late", jobs=1).reason == "trial_expired"


def test_a_function_that_raises_or_answers_nonsense_is_a_store_that_cannot_answer() -> None:
    answers: list[Any] = [LookupError("the table is gone"), 17, None]

    def subscriptions(subject: str) -> Any:
        answer = answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    with quotum.Quota.open("memory:", plans=PLANS, subscriptions=subscriptions, breaker=False) as quota:
        denied = quota.consume("ana", jobs=1)
        assert denied.denied is not None
        assert denied.reason == "store_unavailable"
        assert "LookupError: the table is gone" in (denied.denied.cause or "")
        answers.pop(0)
        denied = quota.consume("ana", jobs=1)
        assert denied.denied is not None
        assert "found 17, expected a function that returns a Subscription" in (denied.denied.cause or "")
        answers.pop(0)
        assert quota.consume("ana", jobs=1)


def test_a_verifier_that_raises_does_not_tell_the_token() -> None:
    def verify(token: str) -> str:
        raise ValueError(f"GET /introspect?token={token} failed")

    with quotum.Quota.open("memory:", plans=PLANS, verifier=verify) as quota:
        with pytest.raises(quotum.VerifyError) as raised:
            quota.authenticate("a-secret-token")
        assert "ValueError: GET /introspect?token=[token] failed" in str(raised.value)
        assert "a-secret-token" not in repr(raised.value)


def test_a_verifier_that_returns_the_wrong_thing_does_not_tell_it() -> None:
    with quotum.Quota.open("memory:", plans=PLANS, verifier=lambda token: token.encode()) as quota:
        with pytest.raises(quotum.VerifyError, match="expected a function that returns a quotum.Identity") as raised:
            quota.authenticate("a-secret-token")
        assert "a-secret-token" not in str(raised.value)


def test_a_verifier_may_ask_the_engine() -> None:
    asked: list[str] = []

    def verify(token: str) -> str:
        asked.append(quota.usage("ana").plan)
        return "ana"

    quota = quotum.Quota.open("memory:", plans=PLANS, verifier=verify)
    assert quota.admit(token="key", jobs=1).subject == "ana"
    assert asked == ["free"]
    quota.close()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit(3)])
def test_what_ends_the_program_is_raised_through_a_function_of_the_hosts(interrupt: Any) -> None:
    def ends(_: str) -> None:
        raise interrupt

    with quotum.Quota.open("memory:", plans=PLANS, verifier=ends) as quota:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            quota.authenticate("key")
    with quotum.Quota.open("memory:", plans=PLANS, subscriptions=ends) as quota:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            quota.consume("ana", jobs=1)


def test_a_token_that_is_no_text_is_malformed_and_shown_by_nothing() -> None:
    asked: list[str] = []
    with quotum.Quota.open("memory:", plans=PLANS, verifier=lambda token: asked.append(token)) as quota:
        assert quota.authenticate("sk-secret-\ud800") is None
        assert quota.admit(token="sk-secret-\ud800", jobs=1).reason == "unauthenticated"
        quota.forget_token("sk-secret-\ud800")
    assert asked == []


def test_a_coroutine_function_needs_an_event_loop() -> None:
    async def subscriptions(subject: str) -> None: ...

    with pytest.raises(quotum.InvalidArgumentError, match="argument `subscriptions`: .*use AsyncQuota for this one"):
        quotum.Quota.open("memory:", plans=PLANS, subscriptions=subscriptions)


def test_a_listener_hears_every_event_and_may_be_slow_or_raise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    raised: list[str] = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: raised.append(str(unraisable.exc_value)))
    heard: list[quotum.Event] = []

    def listen(event: quotum.Event) -> None:
        time.sleep(0.01)
        heard.append(event)
        raise RuntimeError("a listener's mistake")

    quota = quotum.Quota.open(f"sqlite:{tmp_path}/quota.db", plans=PLANS, on_event=listen)
    began = time.perf_counter()
    decisions = [quota.consume("ana", jobs=1) for _ in range(50)]
    spent = time.perf_counter() - began
    assert sum(map(bool, decisions)) == 1
    assert len(heard) < 50, f"fifty requests took {spent:.3f} s: none waits for half a second of listening"
    quota.close()
    names = [event.name for event in heard]
    assert names.count("quota_exhausted") == 49
    assert {"quota_check_success", "quota_threshold_reached"} <= set(names)
    assert (heard[0].subject, heard[0].plan) == ("ana", "free")
    assert len(raised) == len(heard) and set(raised) == {"a listener's mistake"}


def test_a_listener_on_another_thread_may_ask_the_engine() -> None:
    done = threading.Event()
    found: list[int] = []

    def listen(event: quotum.Event) -> None:
        if event.name == "quota_exhausted":
            found.append(quota.usage("ana").quotas[0].used)
            done.set()

    quota = quotum.Quota.open("memory:", plans=PLANS, on_event=listen)
    quota.consume("ana", jobs=1)
    quota.consume("ana", jobs=1)
    assert done.wait(10)
    assert found == [1]
    quota.close()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("plan", "plans.toml", "argument `plan`: found an option that no engine has, expected plans, subscriptions"),
        ("store_timeout", -1, "found -1, expected a timedelta or a number of seconds"),
        ("store_timeout", True, "found True"),
        ("records_max", 1.5, "found 1.5, expected a whole number"),
        ("clock", "now", "found 'now', expected a quotum.ManualClock"),
        ("verifier", 7, "found 7, expected a function"),
        ("lease", "of course", "found 'of course', expected \"auto\", \"off\", or a mapping"),
        ("breaker", {"failure": 3}, "found \"failure\", expected False, or a mapping of failures"),
        ("enforcement", "on", "enforce, shadow, off"),
        ("log_events", "some", "expected \"changes\", \"incidents\" or \"all\""),
        ("pepper", "a short secret", "expected bytes"),
        ("pepper", b"short", "found 5 bytes, expected at least 16 random bytes"),
    ],
)
def test_an_option_that_cannot_be_is_named(option: str, value: Any, message: str) -> None:
    with pytest.raises(quotum.InvalidArgumentError) as raised:
        quotum.Quota.open("memory:", **{"plans": PLANS, option: value})
    assert message in str(raised.value)
    assert "a short secret" not in str(raised.value)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(quotum.InvalidArgumentError, match="argument `now`: .* a datetime with a zone"):
        quotum.ManualClock(datetime.datetime(2026, 3, 10))  # noqa: DTZ001
    clock = quotum.ManualClock(datetime.datetime(2026, 3, 10, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=-3))))
    assert str(clock.now) == "2026-03-10 15:00:00+00:00"
    clock.advance(datetime.timedelta(minutes=5))
    clock.advance(0.5)
    assert str(clock.now) == "2026-03-10 15:05:00.500000+00:00"


def test_a_second_interpreter_is_refused() -> None:
    interpreters = pytest.importorskip("_xxsubinterpreters")
    other = interpreters.create()
    try:
        with pytest.raises(interpreters.RunFailedError, match="ImportError.*interpreter"):
            interpreters.run_string(other, "import quotum")
    finally:
        interpreters.destroy(other)


LISTENED = """
import time, quotum
heard = []
def listen(event):
    time.sleep(0.002)
    heard.append(event.name)
quota = quotum.Quota.open("memory:", plans={"default_plan": "free", "plans": {"free": {"quotas": {"jobs": "9/total"}}}}, on_event=listen)
reserved, subject = quota.reserve("ana", jobs=1, ttl=60), quota.subject("ana")
for _ in range(300):
    subject.check(jobs=1)
"""


@pytest.mark.parametrize(
    "end",
    [
        "quota.close(); del reserved, subject",
        "del quota, subject, reserved",
        "del reserved; quota.close(); del subject, quota",
        "reserved.release(); quota._end(); del subject, quota, reserved",
    ],
)
def test_whatever_ends_an_engine_its_listener_hears_everything(end: str) -> None:
    # Whoever drops the last of it must not keep the listener from Python while it waits for it.
    script = f"{LISTENED}\n{end}\nassert len(heard) >= 301, len(heard)\nprint('heard')"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.returncode) == ("heard\n", 0), run.stderr


def test_a_program_that_just_ends_ends_well() -> None:
    # Its listener is in the middle of something, on a thread that the interpreter would otherwise end.
    run = subprocess.run([sys.executable, "-c", LISTENED], capture_output=True, text=True, timeout=60)
    assert (run.stderr, run.returncode) == ("", 0)
