"""What the modules for web frameworks have in common, without any of them."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from typing import Any

import pytest

import quotum
from quotum import AsyncQuota, Quota
from quotum._gate import Admission, Ask, address, admit, awaited, identify, refusal, waited
from quotum._rule import Rule, Verbs
from quotum.http import Mapping

PLANS = quotum.Plans.from_toml("""
default_plan = "free"
rates = { login = "1/minute" }

[plans.free]
features = { excel = false, history_days = 30 }
quotas = { searches = "3/day", tokens = "100/day" }
rates = { api = "2/minute" }
""")
NOON = datetime(2026, 1, 15, 12, tzinfo=timezone.utc)


def verify(token: str) -> str | None:
    return token.removeprefix("key-of-") if token.startswith("key-of-") else None


def opened(**options: Any) -> Quota:
    return Quota.open("memory:", plans=PLANS, verifier=verify, clock=quotum.ManualClock(NOON), **options)


def admitted(quota: Quota, ask: Ask) -> Admission:
    return waited(admit(quota, ask))


def used(quota: Quota, subject: str = "ana") -> dict[str, tuple[int, int]]:
    return {state.metric: (state.used, state.held) for state in quota.usage(subject).quotas}


def test_threads_and_tasks_take_the_same_steps() -> None:
    ask = Ask(token="key-of-ana", rate="api", tokens=60, reserve=60)

    async def in_a_task() -> Admission:
        async with AsyncQuota.open("memory:", plans=PLANS, verifier=verify) as quota:
            return await awaited(admit(quota, ask))

    with opened() as quota:
        blocking, in_loop = admitted(quota, ask), asyncio.run(in_a_task())
    for admission in (blocking, in_loop):
        assert admission.decision.subject == "ana"
        assert [state.scope for state in admission.decision.rates] == ["api"]
        assert [state.limit for state in admission.decision.quotas] == [100]
        assert admission.reservation


def test_everything_is_asked_at_once_and_charged_or_not_as_one() -> None:
    with opened() as quota:
        with pytest.raises(quotum.DeniedError, match="excel"):
            admitted(quota, Ask(token="key-of-ana", features=["excel"], searches=1))
        assert used(quota)["searches"] == (0, 0)
        admission = admitted(quota, Ask(token="key-of-ana", rate="api", features={"history_days": 7}, searches=1))
        assert used(quota)["searches"] == (1, 0)


def test_a_reservation_that_is_denied_before_it_is_made_holds_nothing() -> None:
    with opened() as quota:
        for ask in (
            Ask(token="guessed", tokens=60, reserve=60),
            Ask(token="", tokens=60, reserve=60),
            Ask("ana", features=["excel"], tokens=60, reserve=60),
            Ask("ana", tokens=101, reserve=60),
        ):
            with pytest.raises(quotum.DeniedError):
                admitted(quota, ask)
        assert used(quota)["tokens"] == (0, 0)


def test_nobody_who_is_not_known_can_reserve() -> None:
    with opened() as quota, pytest.raises(quotum.InvalidArgumentError, match="a subject or a token"):
        admitted(quota, Ask(rate="login", rate_key="ana@example.com", tokens=1, reserve=60))


def test_every_limit_of_a_reservation_is_told() -> None:
    with opened() as quota:
        admission = admitted(quota, Ask("ana", rate="api", tokens=60, reserve=timedelta(seconds=60)))
        told = [value for name, value in admission.fields(Mapping(), quota.now) if name == "ratelimit"]
    assert told == ['"api/60s";r=1;t=30, "tokens/day";r=40;t=43200']


def test_who_asks_is_known_by_the_backend_or_by_a_token() -> None:
    with opened() as quota:
        assert waited(identify(quota, "cy", None)).subject == "cy"
        assert waited(identify(quota, None, "key-of-ana")).subject == "ana"
        for token in ("guessed", "", None):
            with pytest.raises(quotum.DeniedError) as raised:
                waited(identify(quota, None, token))
            assert raised.value.decision.reason == "unauthenticated"


def test_a_part_of_a_rule_is_found_for_each_request() -> None:
    found = {"cost": 2, "days": 7}
    rule = Rule(costs={"searches": lambda: found["cost"]}, features={"history_days": lambda: found["days"]})
    with opened() as quota:
        admitted(quota, rule.ask("ana", None, lambda function: function()))
        assert used(quota)["searches"] == (2, 0)
        found["days"] = 90
        with pytest.raises(quotum.DeniedError, match="history_days"):
            admitted(quota, rule.ask("ana", None, lambda function: function()))


class Rules(Verbs[Rule, Rule]):
    """Verbs that return what they ask for."""

    def _deciding(self, rule: Rule) -> Rule:
        return rule

    _reserving = _deciding


def test_a_rate_for_a_key_alone_does_not_ask_who_asks() -> None:
    rules = Rules()
    assert rules.rate("login", lambda: "an address").is_by_anyone
    for rule in (rules.rate("api"), rules.consume(searches=1), rules.admit(rate="api", rate_key="x", searches=1)):
        assert not rule.is_by_anyone
    with opened() as quota:
        login = rules.rate("login", "203.0.113.7").ask("ana", None, lambda function: function())
        assert admitted(quota, login).decision.subject is None


def test_features_are_named_in_every_way_that_the_engine_takes() -> None:
    rules = Rules()
    asked = {"excel": None, "history_days": 7}
    assert rules.admit(features=asked).features == asked
    assert rules.admit(features=["excel", ("history_days", 7)]).features == asked
    with pytest.raises(TypeError, match="list of names"):
        rules.admit(features="excel")
    with pytest.raises(TypeError, match="'searches' twice"):
        rules.consume({"searches": 1}, searches=1)


@pytest.mark.parametrize(
    ("hops", "peer", "forwarded_for", "found"),
    [
        (0, "198.51.100.1", [b"1.2.3.4"], "198.51.100.1"),
        (1, "10.0.0.1", [b"1.2.3.4, 203.0.113.7"], "203.0.113.7"),
        (1, None, [b"203.0.113.7"], "203.0.113.7"),
        (0, None, [], "0.0.0.0"),
        (0, "a socket", [], "0.0.0.0"),
        (0, "2001:db8::1", [], "2001:db8::1"),
    ],
)
def test_an_address_is_that_which_the_outermost_trusted_proxy_saw(
    hops: int, peer: str | None, forwarded_for: list[bytes], found: str
) -> None:
    assert address(hops, peer, forwarded_for) == ip_address(found)


def test_what_is_a_clients_doing_is_not_logged_as_a_mistake(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "quotum")

    def level_of(ask: Ask, quota: Quota) -> tuple[int | None, int | None]:
        caplog.clear()
        with pytest.raises(quotum.QuotumError) as raised:
            admitted(quota, ask)
        status = refusal(raised.value, Mapping(), NOON).status
        return status, caplog.records[0].levelno if caplog.records else None

    def broken(token: str) -> None:
        raise RuntimeError("ldap-7 is down")

    with opened() as quota:
        admitted(quota, Ask("ana", searches=1, idempotency_key="order-7"))
        assert level_of(Ask("ana", searches=2, idempotency_key="order-7"), quota) == (422, logging.DEBUG)
        assert level_of(Ask("", searches=1), quota) == (400, logging.DEBUG)
        assert level_of(Ask("ana", searches=9), quota) == (429, None)
        assert level_of(Ask("ana", serches=1), quota) == (500, logging.ERROR)
    with Quota.open("memory:", plans=PLANS, verifier=broken) as quota:
        assert level_of(Ask(token="key-of-ana", searches=1), quota) == (503, logging.WARNING)


@pytest.mark.parametrize("name", ["fastapi", "flask", "django"])
def test_a_framework_that_is_missing_is_named(name: str) -> None:
    program = f"""
import sys
sys.modules[{name!r}] = None
import quotum, quotum.asgi, quotum.http
try:
    import quotum.{name}
except ImportError as error:
    assert "pip install {name}" in str(error), error
else:
    raise SystemExit("it was imported without its framework")
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_package_and_the_asgi_middleware_need_no_framework() -> None:
    program = """
import sys
import quotum, quotum.asgi, quotum.http
found = {"starlette", "fastapi", "flask", "django", "asgiref"} & set(sys.modules)
assert not found, found
"""
    subprocess.run([sys.executable, "-c", program], check=True)
