"""The gate: asks the engine for one request, and says what its answer means for it.

What the modules for web frameworks have in common. Nothing here knows a framework: how a request is read, and how an
answer is sent, is theirs. Nothing here waits either: what the engine is asked is yielded, so that the same steps are
taken by threads, which have an answer at once, and by tasks, which await it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, TypeAlias, TypeVar

from . import http
from ._errors import DeniedError, QuotumError
from ._native import AsyncQuota, AsyncReservation, Decision, Identity, Quota, Reservation

T = TypeVar("T")

Address: TypeAlias = IPv4Address | IPv6Address
Engine: TypeAlias = Quota | AsyncQuota
Feature: TypeAlias = bool | int | str
Features: TypeAlias = Mapping[str, Feature | None] | Iterable[str | tuple[str, Feature | None]]
Span: TypeAlias = timedelta | float
Steps: TypeAlias = Generator[Any, Any, T]
"""What is to be done, step by step: each yields what a verb returned, and is sent the answer."""

_log = logging.getLogger("quotum")


def waited(steps: Steps[T]) -> T:
    """Take all steps, with a Quota, whose verbs return answers."""
    try:
        answer = next(steps)
        while True:
            answer = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


async def awaited(steps: Steps[T]) -> T:
    """Take all steps, with an AsyncQuota, whose verbs return what is awaited."""
    try:
        asked: Awaitable[Any] = next(steps)
        while True:
            asked = steps.send(await asked)
    except StopIteration as end:
        result: T = end.value
        return result


class Ask:
    """What one request asks for: the arguments of Quota.admit, and `reserve`.

    It is by a subject, by whomever a token speaks for, or, with a rate and a rate_key, by nobody who is known. An empty
    token speaks for nobody, and is denied. With `reserve`, a timedelta or seconds, what it costs is only set aside for
    as long: whoever serves the request commits what was really used, and what is not committed costs nothing.
    """

    def __init__(
        self,
        subject: str | None = None,
        costs: Mapping[str, int] | None = None,
        /,
        *,
        token: str | None = None,
        rate: str | None = None,
        rate_key: str | Address | None = None,
        rate_cost: int = 1,
        features: Features | None = None,
        idempotency_key: str | None = None,
        reserve: Span | None = None,
        **units: int,
    ) -> None:
        self._subject = subject
        self._token = token
        needs = {"rate": rate, "rate_key": rate_key, "features": features or None}
        self._needs: dict[str, Any] = {name: need for name, need in needs.items() if need is not None}
        if rate_cost != 1:
            self._needs["rate_cost"] = rate_cost
        self._costs = costs
        self._units: dict[str, Any] = units
        self._idempotency_key = idempotency_key
        self._reserve = reserve

    def __repr__(self) -> str:
        # Not the token.
        asked = {**self._needs, **(self._costs or {}), **self._units}
        return f"<Ask for {asked}>"

    def _admitted(self, quota: Engine) -> Steps[Admission]:
        asked: dict[str, Any] = {
            "idempotency_key": self._idempotency_key,
            "token": self._token,
            **self._needs,
            **self._units,
        }
        if self._reserve is None:
            decision: Decision = yield quota.admit(self._subject, self._costs, **asked)
            return Admission(decision.raise_for_denied(), None)
        reserved: Reservation | AsyncReservation = yield quota.reserve(
            self._subject, self._costs, ttl=self._reserve, **asked
        )
        return Admission(reserved.decision.raise_for_denied(), reserved)


@dataclass(frozen=True)
class Admission:
    """A request that was let in: by which decision, and with what set aside for it."""

    decision: Decision
    reservation: Reservation | AsyncReservation | None

    def fields(self, mapping: http.Mapping, now: datetime) -> list[tuple[str, str]]:
        """The header fields that tell the client of every limit."""
        return list(mapping.answer(self.decision, now).fields)

    def let_go(self) -> None:
        """Give back what was set aside and not committed."""
        if self.reservation is not None:
            self.reservation.let_go()


def named(subject: str | None) -> tuple[str | None, str | None]:
    """Who asks, a subject and a token, where a backend has named the subject. None is nobody who is known, for whom an
    empty token stands."""
    return subject, "" if subject is None else None


def admit(quota: Engine, ask: Ask) -> Steps[Admission]:
    """Ask the engine. Raises DeniedError for a denial, and whatever else keeps it from deciding."""
    return ask._admitted(quota)


def identify(quota: Engine, subject: str | None, token: str | None) -> Steps[Identity]:
    """Who asks. Raises DeniedError for nobody who is known."""
    if subject is not None:
        return Identity(subject)
    decision: Decision = yield quota.admit(token=token or "")
    identity = decision.raise_for_denied().identity
    assert identity is not None, "whoever is let in by a token is known"
    return identity


def price_list(quota: Engine) -> Steps[dict[str, Any]]:
    """The plans that the public may see, by rank."""
    plans = yield quota.plans()
    return {"plans": [plan.to_dict() for plan in plans], "total": len(plans)}


def refusal(error: QuotumError, mapping: http.Mapping, now: datetime | None) -> http.Answer:
    """What to tell the client in place of what it asked for. What is not a denial is logged."""
    if isinstance(error, DeniedError):
        return mapping.answer(error.decision, now)
    answer = mapping.answer_error(error, now)
    _tell(error, answer.status or 500)
    return answer


def _tell(error: QuotumError, status: int) -> None:
    """Mistakes are for the operator to mend; the others may be a client's doing, or pass."""
    if status < 500:
        _log.debug("a request was refused: %s", error)
    elif getattr(error, "retry", "never") == "never":
        _log.error("a request could not be decided: %s", error)
    else:
        _log.warning("a request could not be decided: %s", error)


def is_list(field: str) -> bool:
    """Whether a header field is added to one that is there, because every limit is told of.

    Of others, the one that is there is kept: it tells of the limits that are next to the handler.
    """
    return field.startswith("ratelimit")


def address(trusted_hops: int, peer: str | None, forwarded_for: Iterable[bytes]) -> Address:
    """The client's address. All whose peer has none, such as the other end of a Unix socket, share one."""
    try:
        known = ip_address(peer or "")
    except ValueError:
        known = IPv4Address(0)
    return http.client_address(trusted_hops, known, list(forwarded_for))
