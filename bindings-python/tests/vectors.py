"""The shared vectors, as core/tests/vectors/README.md says: scripts of calls and what they must answer."""

from __future__ import annotations

import ipaddress
import json
import pathlib
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import quotum

ROOT = pathlib.Path(__file__).parents[2]
VECTORS = ROOT / "core/tests/vectors"
PLANS = ROOT / "examples/plans"


def all_vectors() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every vector by its file's name, with what it takes from its file."""
    for path in sorted(VECTORS.glob("*.json")):
        file = json.loads(path.read_text())
        shared = {key: file[key] for key in ("plans", "now", "settings") if key in file}
        for vector in file["vectors"]:
            yield path.name, shared | vector


def verbs_of(vector: dict[str, Any]) -> set[str]:
    return {key for step in vector["steps"] for key in step}


class Mismatch(AssertionError):
    """A step that did not answer as expected."""


class Bench:
    """What a vector's steps act on: engines of one store, a clock, a verifier that can be told to refuse."""

    def __init__(self, url: str, vector: dict[str, Any], *, plans: pathlib.Path) -> None:
        self.url = url
        self.vector = vector
        self.plans = plans
        self.clock = quotum.ManualClock(time(vector.get("now", "2026-03-10T15:00:00Z")))
        self.engines: dict[str, quotum.Quota] = {}
        self.reservations: dict[str, tuple[str, quotum.Reservation | None, str | None]] = {}
        self.revoked: set[str] = set()

    def verify(self, token: str) -> quotum.Identity | None:
        if token == "key-of-nobody":
            raise LookupError("the directory is down")
        if token in self.revoked or not token.startswith("key-of-"):
            return None
        subject, _, until = token.removeprefix("key-of-").partition("@")
        return quotum.Identity(subject, expires_at=time(until) if until else None)

    def engine(self, name: str) -> quotum.Quota:
        if name not in self.engines:
            settings = self.vector.get("settings", {})
            ttl = settings.get("idempotency_ttl_s")
            self.engines[name] = quotum.Quota.open(
                self.url,
                plans=self.plans,
                clock=self.clock,
                verifier=self.verify,
                idempotency_ttl=ttl,
                enforcement=settings.get("enforcement"),
            )
        return self.engines[name]

    def restart(self) -> None:
        for name, (engine, reservation, id) in self.reservations.items():
            if reservation is not None:
                reservation.detach()
            self.reservations[name] = (engine, None, id)
        for engine in self.engines.values():
            engine.close()
        self.engines.clear()

    def close(self) -> None:
        self.restart()


def time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def rate_key(key: Any) -> Any:
    return key if isinstance(key, str) else ipaddress.ip_address(key["ip"])


def costs_of(arguments: dict[str, Any], key: str = "costs") -> dict[str, int]:
    return dict(sorted(arguments.get(key, {}).items()))


def told(answer: Any) -> Any:
    """An answer as JSON says it."""
    if isinstance(answer, list):
        return [told(entry) for entry in answer]
    return answer.to_dict() if hasattr(answer, "to_dict") else answer


def plans_of(given: Any) -> Any:
    return PLANS / f"{given}.toml" if isinstance(given, str) else given


def call(bench: Bench, verb: str, given: Any, step: dict[str, Any]) -> Any:
    """Makes a step; its answer as JSON says it."""
    match verb:
        case "advance_s":
            return bench.clock.advance(given)
        case "advance_ms":
            return bench.clock.advance(timedelta(milliseconds=given))
        case "set_wall":
            return bench.clock.set_wall(time(given))
        case "restart":
            return bench.restart()
        case "revoke":
            return bench.revoked.add(given)
    name = step.get("engine", "a")
    quota = bench.engine(name)
    if "by" in step:
        quota = quota.acting_as(step["by"])
    if verb == "reserve":
        return reserve(bench, quota, name, given, step)
    if verb in ("commit", "release"):
        return told(settle(bench, quota, name, verb, given))
    return told(asked(quota, verb, given))


def asked(quota: quotum.Quota, verb: str, given: Any) -> Any:
    match verb:
        case "admit":
            return admit(quota, given)
        case "consume":
            return quota.consume(given["subject"], costs_of(given), idempotency_key=given.get("idempotency_key"))
        case "check" | "refund" | "give_back" | "grant":
            return getattr(quota, verb)(given["subject"], costs_of(given))
        case "feature" | "require":
            return getattr(quota, verb)(given["subject"], given["name"])
        case "require_value":
            return quota.require(given["subject"], given["name"], given["value"])
        case "reset_usage":
            return quota.reset_usage(given["subject"], given["metric"])
        case "rate":
            return quota.rate(given["scope"], rate_key(given["key"]), given.get("cost", 1))
        case "refund_rate":
            return quota.refund_rate(given["scope"], rate_key(given["key"]), given["units"])
        case "clear_rates":
            return quota.clear_rates(rate_key(given))
        case "authenticate" | "forget_token" | "forget_subject" | "usage" | "subscription" | "cancel":
            return getattr(quota, verb)(given)
        case "plans" | "census":
            return getattr(quota, verb)()
        case "catalog_status":
            return quota.catalog_status
        case "set_plans":
            return quota.set_plans(plans_of(given))
        case "subscribe":
            return subscribe(quota, given)
        case "set_overrides":
            given = dict(given)
            return quota.set_overrides(given.pop("subject"), **given)
        case "set_enforcement":
            return quota.set_enforcement(given["mode"], metric=given.get("metric"))
        case "subscribers" | "events":
            return getattr(quota, verb)(**given)
    raise LookupError(f"unknown verb {verb!r}")


def admit(quota: quotum.Quota, given: dict[str, Any]) -> quotum.Decision:
    rate = given.get("rate")
    paced: dict[str, Any] = {"rate": rate}
    if isinstance(rate, dict):
        paced = {"rate": rate["scope"], "rate_key": rate_key(rate["key"]), "rate_cost": rate.get("cost", 1)}
    features = [tuple(feature) if isinstance(feature, list) else feature for feature in given.get("features", [])]
    return quota.admit(
        given.get("subject"),
        costs_of(given),
        token=given.get("token"),
        features=features,
        idempotency_key=given.get("idempotency_key"),
        **paced,
    )


def subscribe(quota: quotum.Quota, given: dict[str, Any]) -> None:
    fields = dict(given)
    subject, plan = fields.pop("subject"), fields.pop("plan")
    fields |= fields.pop("overrides", {})
    for key in ("since", "trial_ends_at", "expires_at", "anchor"):
        if fields.get(key) is not None:
            fields[key] = time(fields[key])
    quota.subscribe(subject, plan, **fields)


def reserve(bench: Bench, quota: quotum.Quota, engine: str, given: dict[str, Any], step: dict[str, Any]) -> Any:
    ttl = timedelta(milliseconds=given["ttl_ms"])
    reserved = quota.reserve(
        given["subject"], costs_of(given), ttl=ttl, idempotency_key=given.get("idempotency_key")
    )
    answer = reserved.decision.to_dict()
    if reserved:
        assert reserved.expires_at is not None
        answer["expires_at"] = as_text(reserved.expires_at)
        if "as" in step:
            bench.reservations[step["as"]] = (engine, reserved, reserved.id)
        else:
            reserved.detach()
    return answer


def as_text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds" if at.microsecond else "seconds").replace("+00:00", "Z")


def settle(bench: Bench, quota: quotum.Quota, engine: str, verb: str, given: dict[str, Any]) -> Any:
    actual = [costs_of(given, "actual")] if verb == "commit" else []
    name = given["reservation"]
    if name not in bench.reservations:
        return getattr(quota, verb)(name, *actual)
    made_on, reservation, id = bench.reservations[name]
    if reservation is not None and made_on == engine:
        bench.reservations[name] = (made_on, None, id)
        return getattr(reservation, verb)(*actual)
    return getattr(quota, verb)(id, *actual)


def error_told(error: quotum.QuotumError) -> dict[str, Any]:
    """An exception as the vectors know it."""
    kinds: dict[type[quotum.QuotumError], str] = {
        quotum.InvalidArgumentError: "invalid_argument",
        quotum.UnknownNameError: "unknown",
        quotum.PlansError: "no_plans" if "there are no plans" in str(error) else "plans",
        quotum.ConflictError: "conflict",
        quotum.HoldExpiredError: "hold_expired",
        quotum.HoldUnknownError: "hold_unknown",
        quotum.StoreError: "store",
        quotum.VerifyError: "verify",
    }
    fields: dict[str, Any] = {"kind": kinds[type(error)], "message": str(error)}
    if isinstance(error, quotum.InvalidArgumentError):
        fields["argument"] = str(error).split("`")[1]
    if isinstance(error, quotum.UnknownNameError):
        fields |= {"what": error.what, "name": error.name, "known": error.known}
    return fields


def matches(expected: Any, found: Any) -> bool:
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(matches(value, found.get(key)) for key, value in expected.items())
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(expected) == len(found)
            and all(matches(one, other) for one, other in zip(expected, found, strict=True))
        )
    return type(expected) is type(found) and expected == found


def error_matches(expected: dict[str, Any], found: dict[str, Any]) -> bool:
    expected = dict(expected)
    said = expected.pop("message_contains", [])
    said = [said] if isinstance(said, str) else said
    return matches(expected, found) and all(text in found["message"] for text in said)


def run_step(bench: Bench, step: dict[str, Any]) -> None:
    beside = {"expect", "expect_error", "engine", "by", "as", "times"}
    (verb,) = set(step) - beside
    try:
        answer = call(bench, verb, step[verb], step)
    except quotum.QuotumError as error:
        found = error_told(error)
        if "expect_error" not in step or not error_matches(step["expect_error"], found):
            raise Mismatch(f"{verb}: expected {step.get('expect_error', step.get('expect'))}, found {found}") from error
        return
    if "expect_error" in step:
        raise Mismatch(f"{verb}: expected the error {step['expect_error']}, found {answer}")
    expected = step.get("expect")
    if "expect" not in step:
        if isinstance(answer, dict) and answer.get("allowed") is False:
            raise Mismatch(f"{verb}: expected no denial, found {answer}")
    elif not matches(expected, answer):
        raise Mismatch(f"{verb}: expected {expected}, found {answer}")


def run(vector: dict[str, Any], url: str, folder: pathlib.Path) -> None:
    """Runs a vector to its end, or to the first step that does not answer as expected."""
    plans = plans_of(vector["plans"])
    if isinstance(plans, dict):
        path = folder / "plans.json"
        path.write_text(json.dumps(plans))
        plans = path
    bench = Bench(url, vector, plans=plans)
    try:
        for number, step in enumerate(vector["steps"], 1):
            for _ in range(step.get("times", 1)):
                try:
                    run_step(bench, step)
                except Mismatch as mismatch:
                    raise Mismatch(f"{vector['name']}, step {number}: {mismatch}") from mismatch
    finally:
        bench.close()


if __name__ == "__main__":
    for _, one in all_vectors():
        with tempfile.TemporaryDirectory() as where:
            run(one, f"sqlite:{where}/quota.db", pathlib.Path(where))
