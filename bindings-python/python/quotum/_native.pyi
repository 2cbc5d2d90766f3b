from collections.abc import Mapping
from datetime import datetime, timedelta
from os import PathLike
from types import TracebackType
from typing import Any, Literal, final

from typing_extensions import Self

__version__: str

_Reason = Literal[
    "rate_limited",
    "quota_exhausted",
    "never_fits",
    "feature_not_in_plan",
    "feature_value_exceeded",
    "trial_expired",
    "subscription_inactive",
    "unauthenticated",
    "store_unavailable",
]
_Feature = bool | int | str

@final
class Denial:
    """Why a request is denied, and what would help. Its text says it in a sentence."""

    @property
    def reason(self) -> _Reason:
        """The reason."""
    @property
    def metric(self) -> str | None:
        """The metric whose quota denied, where one did. Of several, the one that is free again last."""
    @property
    def period(self) -> str | None:
        """The period of that quota, such as "day"."""
    @property
    def requested(self) -> int | None:
        """How many units were asked for."""
    @property
    def limit(self) -> int | None:
        """The limit of that quota, in units."""
    @property
    def used(self) -> int | None:
        """How many units of it are used."""
    @property
    def resets_at(self) -> datetime | None:
        """When that quota starts afresh, in UTC."""
    @property
    def scope(self) -> str | None:
        """The scope whose rate denied, where one did."""
    @property
    def retry_after_ms(self) -> int | None:
        """How long to wait, in milliseconds, where that is known without a calendar."""
    @property
    def feature(self) -> str | None:
        """The feature that denied, where one did."""
    @property
    def ended_at(self) -> datetime | None:
        """When the trial or the subscription ended, in UTC."""
    @property
    def cause(self) -> str | None:
        """What the store said, where it could not answer."""
    @property
    def upgrade_to(self) -> str | None:
        """The cheapest plan by rank that would have allowed the request."""
    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can say it, with times as texts."""

@final
class QuotaState:
    """One quota of a subject, as it stands."""

    @property
    def metric(self) -> str:
        """What is counted."""
    @property
    def period(self) -> str | None:
        """How often it starts afresh, such as "month"; None where nothing is counted."""
    @property
    def limit(self) -> int | None:
        """How many units the period allows, bonus included; None without a limit."""
    @property
    def used(self) -> int:
        """Units used in this period."""
    @property
    def held(self) -> int:
        """Units set aside by reservations that are still open."""
    @property
    def leased(self) -> int:
        """Units in leased blocks, of which this process knows no use."""
    @property
    def stranded(self) -> int:
        """Of these, the units in other processes' blocks."""
    @property
    def bonus(self) -> int:
        """Units granted in this period on top of the plan's limit."""
    @property
    def overage(self) -> int:
        """Units consumed in this period that did not fit."""
    @property
    def remaining(self) -> int | None:
        """Units left; None without a limit."""
    @property
    def resets_at(self) -> datetime | None:
        """When the period ends, in UTC; None where it never does."""
    @property
    def percent(self) -> int | None:
        """How much of the limit is used, in whole percent rounded down; None without a limit."""
    @property
    def warning(self) -> bool:
        """Whether 80 % or more of the limit is used."""
    @property
    def shared(self) -> bool:
        """Whether all members of the subject's account share it."""
    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can say it, with times as texts."""

@final
class Decision:
    """Allowed, or denied and why. True where the request may go on."""

    @property
    def allowed(self) -> bool:
        """Whether the request may go on."""
    @property
    def subject(self) -> str | None:
        """Who asked; None where that is not known."""
    @property
    def plan(self) -> str | None:
        """The id of the plan that decided; None where none did."""
    @property
    def plan_version(self) -> int | None:
        """Which edition of that plan."""
    @property
    def quotas(self) -> list[QuotaState]:
        """The quotas that were asked about, as they stand after the decision."""
    @property
    def denied(self) -> Denial | None:
        """Why not, where the request is denied."""
    @property
    def would_deny(self) -> Denial | None:
        """Why the request would have been denied, were the quota enforced."""
    @property
    def reason(self) -> _Reason | None:
        """Why the request is denied, such as "quota_exhausted"; None where it is allowed."""
    @property
    def upgrade_to(self) -> str | None:
        """The cheapest plan by rank that would have allowed the request."""
    @property
    def degraded(self) -> bool:
        """Whether it was allowed without asking the store, which could not answer."""
    @property
    def repeated(self) -> bool:
        """Whether this is the answer to an earlier request with the same idempotency key, given again."""
    def raise_for_denied(self) -> Self:
        """Raise DeniedError where the request is denied; otherwise return the decision itself."""
    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can say it, with times as texts."""
    def __bool__(self) -> bool: ...

@final
class Usage:
    """What an account page shows: every quota of a subject, its plan and its state."""

    @property
    def subject(self) -> str:
        """Whose usage."""
    @property
    def plan(self) -> str:
        """The id of the plan in force, or of the plan that has lapsed."""
    @property
    def plan_name(self) -> str:
        """The plan's name for people."""
    @property
    def plan_version(self) -> int:
        """Which edition of the plan."""
    @property
    def status(self) -> Literal["trialing", "active", "past_due", "paused", "canceled"] | None:
        """The subscription's state; None for a subject without one."""
    @property
    def account(self) -> str | None:
        """The account that the subject is a member of, whose plan it has."""
    @property
    def refused(self) -> _Reason | None:
        """Why nothing is granted now, if nothing is."""
    @property
    def trial_ends_at(self) -> datetime | None:
        """When the trial ends, in UTC."""
    @property
    def expires_at(self) -> datetime | None:
        """When what was paid for ends, in UTC."""
    @property
    def quotas(self) -> list[QuotaState]:
        """Every quota of the plan, by metric."""
    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can say it, with times as texts."""

@final
class Settlement:
    """How a reservation was settled."""

    @property
    def at(self) -> datetime:
        """When, in UTC."""
    @property
    def repeated(self) -> bool:
        """Whether it had been settled before; nothing was changed then."""
    def consumed(self, metric: str) -> int:
        """How many units of a metric were consumed, overage included."""
    def overage(self, metric: str) -> int:
        """How many of them did not fit into the tightest of the metric's limits."""

@final
class Reservation:
    """Units set aside for one request, or the denial. True where they are set aside.

    As a context manager, what was not committed by its end is given back, also where an exception ends it.
    """

    @property
    def decision(self) -> Decision:
        """The decision."""
    @property
    def allowed(self) -> bool:
        """Whether the request may go on."""
    @property
    def id(self) -> str | None:
        """The name by which it could be settled elsewhere; None where nothing is held."""
    @property
    def expires_at(self) -> datetime | None:
        """When its units are given back, in UTC, unless it is settled before."""
    def commit(self, costs: Mapping[str, int] | None = None, /, **actual: int) -> Settlement:
        """Charge what was really used, and give the rest back. What is not named was used as it was reserved.

        Raises HoldExpiredError where it is too late, HoldUnknownError where it was settled already, DeniedError where
        nothing was reserved, and StoreError where the store cannot answer.
        """
    def release(self) -> Settlement:
        """Give everything back. Raises as commit does."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
    def __bool__(self) -> bool: ...

@final
class Quota:
    """The engine: asks a store, decides by the plans. Safe to share between threads.

    Costs are keywords, such as searches=1, or a mapping where a metric is no identifier, in units. Every verb raises
    UnknownNameError for a name that no plan knows, InvalidArgumentError for an argument that no call can have, and
    StoreError where the store cannot answer; consume, check and reserve answer that with a denial.
    """

    @staticmethod
    def open(
        url: str, *, plans: str | PathLike[str], store_timeout: timedelta | float | None = None
    ) -> Quota:
        """Open the store that a URL names, such as "sqlite:quota.db" or "memory:".

        plans is a plans file, TOML or JSON. store_timeout is how long a request waits for the store at the most, as a
        timedelta or in seconds; 5 seconds by default. Raises PlansError and StoreError where either cannot be used.
        """
    def consume(
        self, subject: str, costs: Mapping[str, int] | None = None, /, *, idempotency_key: str | None = None, **units: int
    ) -> Decision:
        """Charge every cost, or none where one does not fit. Under an idempotency key, once.

        Raises ConflictError where the key was used before with other arguments.
        """
    def check(self, subject: str, costs: Mapping[str, int] | None = None, /, **units: int) -> Decision:
        """Whether it would be allowed now. Consumes nothing, promises nothing."""
    def reserve(
        self,
        subject: str,
        costs: Mapping[str, int] | None = None,
        /,
        *,
        ttl: timedelta | float,
        idempotency_key: str | None = None,
        **units: int,
    ) -> Reservation:
        """Set units aside for as long as ttl, a timedelta or seconds, for a request whose cost is known later."""
    def refund(self, subject: str, costs: Mapping[str, int] | None = None, /, **units: int) -> list[QuotaState]:
        """Give back what was consumed, never below zero."""
    def give_back(self, subject: str, costs: Mapping[str, int] | None = None, /, **units: int) -> list[QuotaState]:
        """Lower levels, such as storage, that never reset."""
    def grant(self, subject: str, costs: Mapping[str, int] | None = None, /, **units: int) -> list[QuotaState]:
        """Grant units on top of the plan's limits, in the present periods only."""
    def reset_usage(self, subject: str, metric: str, /) -> list[QuotaState]:
        """Forget what was used of a metric in the present periods."""
    def usage(self, subject: str, /) -> Usage:
        """Every quota of a subject, its plan and its state."""
    def feature(self, subject: str, name: str, /) -> _Feature | None:
        """What a subject's plan has of a feature; None where it has nothing of it."""
    def require(self, subject: str, name: str, value: _Feature | None = None, /) -> Decision:
        """Whether a subject's plan has a feature, or as much of it as value."""
    def close(self) -> None:
        """Charge and return what is owed and leased. Afterwards every verb raises ClosedError."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
