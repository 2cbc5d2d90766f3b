"""The native module: see quotum and quotum.http, which export what is in it."""

from collections import abc
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from os import PathLike
from types import GenericAlias, TracebackType
from typing import Any, ClassVar, Literal, TypeAlias, TypedDict, TypeVar, final

from typing_extensions import Self

from .testing import Store

__version__: str

_Reason: TypeAlias = Literal[
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
_Status: TypeAlias = Literal["trialing", "active", "past_due", "paused", "canceled"]
_Period: TypeAlias = Literal[
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "year",
    "billing_day",
    "billing_week",
    "billing_month",
    "billing_year",
    "total",
]
_EventName: TypeAlias = Literal[
    "quota_check_success",
    "quota_exhausted",
    "quota_threshold_reached",
    "rate_limited",
    "trial_expired",
    "feature_blocked",
    "feature_value_blocked",
    "subscription_inactive",
    "unauthenticated",
    "quota_check_error",
    "degraded_grant",
    "plan_changed",
    "subscription_changed",
    "enforcement_changed",
    "usage_adjusted",
    "token_forgotten",
    "rates_cleared",
    "cache_evicted",
    "hold_expired",
    "leases_recalled",
]
_Enforcement: TypeAlias = Literal["enforce", "shadow", "off"]
_LoggedEvents: TypeAlias = Literal["changes", "incidents", "all"]
_Fields: TypeAlias = Literal["standard", "legacy", "both", "none"]

_FeatureValue: TypeAlias = bool | int | str
_Span: TypeAlias = timedelta | float
_Costs: TypeAlias = abc.Mapping[str, int]
_Limits: TypeAlias = abc.Mapping[str, str | abc.Sequence[str]]
_RateKey: TypeAlias = str | IPv4Address | IPv6Address
_Features: TypeAlias = abc.Mapping[str, _FeatureValue | None] | abc.Iterable[str | tuple[str, _FeatureValue | None]]

_PlansSource: TypeAlias = str | PathLike[str] | dict[str, Any] | Plans
_ReadPlans: TypeAlias = abc.Callable[[], _PlansSource | None]
_ReadSubscription: TypeAlias = abc.Callable[[str], Subscription | str | None]
_Verify: TypeAlias = abc.Callable[[str], Identity | str | None]
_AwaitPlans: TypeAlias = abc.Callable[[], abc.Coroutine[Any, Any, _PlansSource | None]]
_AwaitSubscription: TypeAlias = abc.Callable[[str], abc.Coroutine[Any, Any, Subscription | str | None]]
_AwaitIdentity: TypeAlias = abc.Callable[[str], abc.Coroutine[Any, Any, Identity | str | None]]

class _Breaker(TypedDict, total=False):
    failures: int
    cool_down: _Span
    cool_down_max: _Span

class _Lease(TypedDict, total=False):
    max: int
    ttl_s: int

class _TokenStats(TypedDict):
    hits: int
    negative_hits: int
    misses: int
    evictions: int

_T_co = TypeVar("_T_co", covariant=True)

@final
class Answer(abc.Coroutine[Any, Any, _T_co]):
    """What a verb of AsyncQuota returns: await it, once. What can be answered from memory is decided when the verb is
    called; anything else is done while it is awaited. Where the answer is a reservation or an engine, `async with` is
    an await too.
    """

    def __await__(self) -> abc.Generator[Any, None, _T_co]: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def send(self, value: Any, /) -> Any:
        """Go on, as an event loop does: nobody else need call it. Raises RuntimeError where it was awaited before."""
    def throw(self, error: Any, /, *more: Any) -> Any:
        """Let go of what was asked, and raise the error, as a cancelled task does."""
    def close(self) -> None:
        """Let go of what was asked. What was begun is done whole or not at all."""
    async def __aenter__(self) -> _T_co: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

@final
class ManualClock:
    """A clock for tests: it stands still until it is told to move. It is made with the time that it shows, a datetime
    with a zone.
    """

    def __new__(cls, now: datetime, /) -> Self: ...
    @property
    def now(self) -> datetime:
        """What the clock shows, in UTC."""
    def advance(self, by: _Span, /) -> None:
        """Let time pass: a timedelta, or seconds. Raises InvalidArgumentError for less than 0."""
    def set_wall(self, now: datetime, /) -> None:
        """Set the clock, forwards or back, as an operator would: no time passes. Raises InvalidArgumentError for a
        datetime without a zone.
        """

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
        """Which edition of that plan; None where none decided."""
    @property
    def quotas(self) -> list[QuotaState]:
        """The quotas that were asked about, as they stand after the decision."""
    def quota(self, metric: str, /) -> QuotaState | None:
        """The tightest quota of a metric: the one with the fewest units left. None where it was not asked about."""
    @property
    def rates(self) -> list[RateState]:
        """The windows of the rate that was asked about, as they stand after the decision."""
    @property
    def identity(self) -> Identity | None:
        """Whom the token speaks for, where the request was made with one."""
    @property
    def denied(self) -> Denial | None:
        """Why not, where the request is denied; None where it is allowed."""
    @property
    def would_deny(self) -> Denial | None:
        """Why the request would have been denied, were the quota enforced; None where it would not."""
    @property
    def reason(self) -> _Reason | None:
        """Why the request is denied, such as "quota_exhausted"; None where it is allowed."""
    @property
    def upgrade_to(self) -> str | None:
        """The id of the cheapest plan by rank that would have allowed the request; None where there is none."""
    @property
    def degraded(self) -> bool:
        """Whether it was allowed without asking the store, which could not answer."""
    @property
    def repeated(self) -> bool:
        """Whether this is the answer to an earlier request with the same idempotency key, given again."""
    def raise_for_denied(self) -> Decision:
        """Raise DeniedError where the request is denied; otherwise return the decision itself."""
    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can say it, with times as texts."""
    def __bool__(self) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class Denial:
    """Why a request is denied, and what would help. Its text says it in a sentence."""

    @property
    def reason(self) -> _Reason:
        """The reason, such as "quota_exhausted"."""
    @property
    def metric(self) -> str | None:
        """The metric whose quota denied, where one did. Of several, the one that is free again last."""
    @property
    def period(self) -> _Period | None:
        """The period of that quota, such as "day"."""
    @property
    def requested(self) -> int | None:
        """How many units were asked for."""
    @property
    def limit(self) -> int | None:
        """The limit of that quota or rate, in units."""
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
    def window_s(self) -> int | None:
        """The length of that rate's window, in seconds."""
    @property
    def retry_after_ms(self) -> int | None:
        """How long to wait, in milliseconds, where that is known without a calendar."""
    @property
    def feature(self) -> str | None:
        """The feature that denied, where one did."""
    @property
    def feature_requested(self) -> _FeatureValue | None:
        """What was asked of the feature."""
    @property
    def feature_granted(self) -> _FeatureValue | None:
        """What the plan has of it."""
    @property
    def ended_at(self) -> datetime | None:
        """When the trial or the subscription ended, in UTC."""
    @property
    def cause(self) -> str | None:
        """What the store said, where it could not answer: for operators, not for clients."""
    @property
    def upgrade_to(self) -> str | None:
        """The id of the cheapest plan by rank that would have allowed the request; None where there is none."""
    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can say it, with times as texts."""
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class QuotaState:
    """One quota of a subject, as it stands."""

    @property
    def metric(self) -> str:
        """What is counted."""
    @property
    def period(self) -> _Period | None:
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
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class RateState:
    """How one window of a rate stands."""

    @property
    def scope(self) -> str | None:
        """What the rate limits, as part of a decision; None in a RateDecision, which was asked about one."""
    @property
    def limit(self) -> str:
        """The limit as plans write it, such as "10/minute"."""
    @property
    def units(self) -> int:
        """How many units a window's length allows."""
    @property
    def burst(self) -> int:
        """How many of them at once."""
    @property
    def window_s(self) -> int:
        """The length of the window, in seconds."""
    @property
    def remaining(self) -> int:
        """The most units that this window would still allow now."""
    @property
    def reset_after_ms(self) -> int:
        """How long until the window is as good as unused, in milliseconds rounded up."""
    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can say it."""
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class RateDecision:
    """What the limiter alone has decided. True where the cost was taken."""

    @property
    def allowed(self) -> bool:
        """Whether the cost was taken."""
    @property
    def never_fits(self) -> bool:
        """Whether the cost is above what a window holds unused, so that waiting does not help."""
    @property
    def retry_after_ms(self) -> int | None:
        """How long until the same cost would be taken, in milliseconds rounded up; None if it was, or never will be."""
    @property
    def windows(self) -> list[RateState]:
        """Each window, in the order of the rate's limits."""
    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can say it."""
    def __bool__(self) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class Identity:
    """Whom a token speaks for, as a verifier has found. Attributes are what else the host wants to know of the caller;
    not the token itself, because they are printed.
    """

    def __new__(
        cls, subject: str, *, expires_at: datetime | None = None, attributes: dict[str, str] | None = None
    ) -> Self: ...
    @property
    def subject(self) -> str:
        """Who is metered."""
    @property
    def expires_at(self) -> datetime | None:
        """When the token ceases to be valid, in UTC, if it does by itself."""
    @property
    def attributes(self) -> dict[str, str]:
        """What else the host has said of the caller."""
    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can say it, with times as texts."""
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class Plan:
    """One plan: what a subject on it may do, and how it is shown and sold."""

    @property
    def id(self) -> str:
        """The name by which subscriptions refer to it."""
    @property
    def name(self) -> str:
        """The name shown to people; the id where the file gives none."""
    @property
    def names(self) -> dict[str, str]:
        """The name in other languages, by language tag."""
    @property
    def description(self) -> str | None:
        """A sentence for the price list."""
    @property
    def rank(self) -> int:
        """Its place in lists and in upgrade suggestions, cheapest first."""
    @property
    def visible(self) -> bool:
        """Whether the public listing and upgrade suggestions show it."""
    @property
    def version(self) -> int:
        """Which edition of the plan this is, for whoever keeps several."""
    @property
    def trial_days(self) -> int:
        """How many days a trial of it lasts; 0 where there is none."""
    @property
    def grace_days(self) -> int | None:
        """How many days after its end a subscription still grants; the file's own setting where None."""
    @property
    def prices(self) -> dict[str, str]:
        """What it costs, by billing interval, such as {"monthly": "BRL 297.00"}."""
    @property
    def stripe_prices(self) -> dict[str, str]:
        """Its Stripe price ids, by billing interval."""
    @property
    def features(self) -> dict[str, _FeatureValue]:
        """What it can do, by name."""
    @property
    def quotas(self) -> dict[str, list[str]]:
        """How much it may use, by metric, such as {"searches": ["5/day", "50/month"]}."""
    @property
    def member_quotas(self) -> dict[str, list[str]]:
        """How much each member of an account on this plan may use of what the account has, by metric."""
    @property
    def rate_multiplier(self) -> int:
        """How many times over each of its rates holds."""
    def to_dict(self) -> dict[str, Any]:
        """Everything that the plans file says of it, as JSON can say it."""
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class Plans:
    """All plans of a plans file, checked and ready to decide by."""

    @staticmethod
    def from_file(path: str | PathLike[str], /) -> Plans:
        """Read a plans file, TOML or JSON by its ending. Raises PlansError with every problem's line and key."""
    @staticmethod
    def from_toml(text: str, /) -> Plans:
        """Read plans from a text in TOML. Raises PlansError."""
    @staticmethod
    def from_json(text: str, /) -> Plans:
        """Read plans from a text in JSON. Raises PlansError."""
    @staticmethod
    def from_dict(plans: dict[str, Any], /) -> Plans:
        """Take plans from a dictionary of the plans file's schema. Raises PlansError."""
    @property
    def plans(self) -> list[Plan]:
        """All plans by rank, hidden ones too."""
    @property
    def default_plan(self) -> Plan:
        """The plan of a subject that has no subscription."""
    def get(self, id: str, /) -> Plan:
        """The plan of this id. Raises UnknownNameError, which lists the plans there are."""
    def to_json(self) -> str:
        """The plans file, as JSON, that reads back as these plans."""
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class CatalogStatus:
    """Where the plans in force came from, and whether the last refresh failed."""

    @property
    def origin(self) -> Literal["store", "file"]:
        """"store", where `set_plans` put them or the host keeps them, or "file"."""
    @property
    def version(self) -> int:
        """Their version in the store; 0 for plans from a file."""
    @property
    def loaded_at(self) -> datetime:
        """When they were last found to be current, in UTC."""
    @property
    def last_error(self) -> str | None:
        """Why the last refresh failed, if it did: the plans in force are older than they should be."""
    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can say it, with times as texts."""
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class Subscription:
    """Which plan a subject is on, since when and until when.

    `since` is when it came into its state: now, where it is not given. `features` and `quotas` are what it has that its
    plan does not say, such as {"searches": ["5/day", "100/month"]}. Times are datetimes with a zone. Raises
    InvalidArgumentError for a field that no subscription can have.
    """

    def __new__(
        cls,
        plan: str,
        *,
        status: _Status | None = "active",
        since: datetime | None = None,
        trial_ends_at: datetime | None = None,
        expires_at: datetime | None = None,
        anchor: datetime | None = None,
        zone: str | None = None,
        account: str | None = None,
        features: abc.Mapping[str, _FeatureValue] | None = None,
        quotas: _Limits | None = None,
    ) -> Self: ...
    @property
    def plan(self) -> str:
        """The id of the plan."""
    @property
    def status(self) -> _Status:
        """The state it is in: "trialing", "active", "past_due", "paused" or "canceled"."""
    @property
    def since(self) -> datetime:
        """When it came into that state, in UTC."""
    @property
    def trial_ends_at(self) -> datetime | None:
        """When its trial ends, in UTC."""
    @property
    def expires_at(self) -> datetime | None:
        """When what was paid for ends, in UTC."""
    @property
    def anchor(self) -> datetime | None:
        """From when billing periods are counted, in UTC."""
    @property
    def zone(self) -> str | None:
        """The IANA zone of its calendar periods, where it is not that of the plans file."""
    @property
    def account(self) -> str | None:
        """The account it belongs to, such as its team."""
    @property
    def features(self) -> dict[str, _FeatureValue]:
        """Features that it has in place of its plan's."""
    @property
    def quotas(self) -> dict[str, list[str]]:
        """Limits that it has in place of its plan's, by metric."""
    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can say it, with times as texts."""
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class Subscriber:
    """A subject that has a subscription, as a listing shows it."""

    @property
    def subject(self) -> str:
        """The subject."""
    @property
    def subscription(self) -> Subscription:
        """Its subscription."""
    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can say it, with times as texts."""
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class Census:
    """How many subjects have a subscription to a plan in a state."""

    @property
    def plan(self) -> str:
        """The plan's id."""
    @property
    def status(self) -> _Status:
        """The state."""
    @property
    def subjects(self) -> int:
        """How many subjects."""
    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can say it."""
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

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
    def status(self) -> _Status | None:
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
    def features(self) -> dict[str, _FeatureValue]:
        """What the plan can do, by name, with what the subject has of its own in place of it."""
    @property
    def quotas(self) -> list[QuotaState]:
        """Every quota of the plan, by metric."""
    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can say it, with times as texts."""
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class Event:
    """One thing that happened, with what is known of it."""

    @property
    def sequence(self) -> int:
        """Its place in the store's log, from 1; 0 for an event that no store has kept."""
    @property
    def name(self) -> _EventName:
        """What happened, such as "quota_exhausted"."""
    @property
    def at(self) -> datetime:
        """When, in UTC."""
    @property
    def subject(self) -> str | None:
        """To whom."""
    @property
    def account(self) -> str | None:
        """The account that it is a member of."""
    @property
    def actor(self) -> str | None:
        """Who made the change, as `acting_as` has said."""
    @property
    def plan(self) -> str | None:
        """The id of the plan in force."""
    @property
    def reason(self) -> _Reason | None:
        """Why a request was denied."""
    @property
    def metric(self) -> str | None:
        """The metric, scope or feature that it is about."""
    @property
    def period(self) -> _Period | None:
        """The period of the metric's quota."""
    @property
    def used(self) -> int | None:
        """Units used."""
    @property
    def limit(self) -> int | None:
        """The limit, in units."""
    @property
    def remaining(self) -> int | None:
        """Units left."""
    @property
    def resets_at(self) -> datetime | None:
        """When the quota starts afresh, in UTC."""
    @property
    def upgrade_to(self) -> str | None:
        """The id of the cheapest plan by rank that would have allowed the request."""
    @property
    def duration_us(self) -> int | None:
        """How long the decision took, in microseconds."""
    @property
    def detail(self) -> Any:
        """What else there is to say, such as what a change has put in place, as JSON can say it; None for nothing."""
    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can say it, with times as texts."""
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class Settlement:
    """How a reservation was settled."""

    @property
    def at(self) -> datetime:
        """When, in UTC."""
    @property
    def repeated(self) -> bool:
        """Whether it had been settled before; nothing was changed then."""
    @property
    def consumed(self) -> dict[str, int]:
        """How many units of each metric were consumed, overage included."""
    @property
    def overage(self) -> dict[str, int]:
        """How many of them did not fit into the tightest of the metric's limits."""
    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can say it, with times as texts."""
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

class Held:
    """What Reservation and AsyncReservation have in common, besides settling it."""

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
    def detach(self) -> str | None:
        """Leave the units held, for whoever settles them by their id, or until they expire. Returns the id; None where
        nothing is held any more.
        """
    def let_go(self) -> None:
        """Give back what was not settled, if anything is open. Units that cannot be given back now expire. For tasks it
        is done aside: nothing is awaited.
        """
    def __bool__(self) -> bool: ...

@final
class Reservation(Held):
    """Units set aside for one request, or the denial. True where they are set aside.

    As a context manager, what was not committed by its end is given back, also where an exception ends it.
    """

    def commit(self, costs: _Costs | None = None, /, **actual: int) -> Settlement:
        """Charge what was really used, and give the rest back. What is not named was used as it was reserved.

        Raises HoldExpiredError where it is too late, HoldUnknownError where it was settled already, DeniedError where
        nothing was reserved, and StoreError where the store cannot answer.
        """
    def release(self) -> Settlement:
        """Give everything back. Raises as commit does."""
    def __enter__(self) -> Reservation: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

@final
class AsyncReservation(Held):
    """Units set aside for one request, or the denial, for tasks: settling it is awaited. True where they are set aside.

    Entered by `async with`, what was not committed by its end is given back, also where an exception ends it.
    """

    async def commit(self, costs: _Costs | None = None, /, **actual: int) -> Settlement:
        """Charge what was really used, and give the rest back. What is not named was used as it was reserved.

        Raises HoldExpiredError where it is too late, HoldUnknownError where it was settled already, DeniedError where
        nothing was reserved, and StoreError where the store cannot answer.
        """
    async def release(self) -> Settlement:
        """Give everything back. Raises as commit does."""
    async def __aenter__(self) -> AsyncReservation: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

class Handle:
    """What Subject and AsyncSubject have in common."""

    @property
    def id(self) -> str:
        """Whose handle it is."""

@final
class Subject(Handle):
    """A subject that is asked about often. What it is asked is decided as for its id, only faster, because what is
    known of the subject need not be looked up.
    """

    def admit(
        self,
        costs: _Costs | None = None,
        /,
        *,
        rate: str | None = None,
        rate_key: _RateKey | None = None,
        rate_cost: int | None = None,
        features: _Features | None = None,
        idempotency_key: str | None = None,
        **units: int,
    ) -> Decision:
        """Decide on everything that one request asks for: see Quota.admit."""
    def consume(
        self, costs: _Costs | None = None, /, *, idempotency_key: str | None = None, **units: int
    ) -> Decision:
        """Charge every cost, or none where one does not fit: see Quota.consume."""
    def check(self, costs: _Costs | None = None, /, **units: int) -> Decision:
        """Whether it would be allowed now: see Quota.check."""
    def require(self, name: str, value: _FeatureValue | None = None, /) -> Decision:
        """Whether the subject's plan has a feature, or as much of it as value: see Quota.require."""

@final
class AsyncSubject(Handle):
    """The same as Subject for tasks: its verbs are awaited."""

    async def admit(
        self,
        costs: _Costs | None = None,
        /,
        *,
        rate: str | None = None,
        rate_key: _RateKey | None = None,
        rate_cost: int | None = None,
        features: _Features | None = None,
        idempotency_key: str | None = None,
        **units: int,
    ) -> Decision:
        """Decide on everything that one request asks for: see Quota.admit."""
    async def consume(
        self, costs: _Costs | None = None, /, *, idempotency_key: str | None = None, **units: int
    ) -> Decision:
        """Charge every cost, or none where one does not fit: see Quota.consume."""
    async def check(self, costs: _Costs | None = None, /, **units: int) -> Decision:
        """Whether it would be allowed now: see Quota.check."""
    async def require(self, name: str, value: _FeatureValue | None = None, /) -> Decision:
        """Whether the subject's plan has a feature, or as much of it as value: see Quota.require."""

class Engine:
    """What Quota and AsyncQuota have in common: the verbs. Here are those that wait for nothing."""

    def clear_catalog(self) -> None:
        """Have the next caller read the plans anew, from the store or the plans file."""
    @property
    def catalog_status(self) -> CatalogStatus | None:
        """Where the plans in force came from, and whether the last refresh failed; None before the first."""
    @property
    def now(self) -> datetime:
        """The time by the engine's clock, in UTC."""
    @property
    def events_dropped(self) -> int:
        """How many events were dropped because the listener or the log could not keep up."""
    @property
    def token_stats(self) -> _TokenStats | None:
        """How the cache of tokens has done: hits, negative_hits, misses and evictions; None for an engine without a
        verifier.
        """
    def metrics(self) -> str:
        """Everything that there is to measure, as OpenMetrics text for Prometheus."""
    def _end(self) -> None:
        """Close at the end of the interpreter, when no event loop runs any more."""

@final
class Quota(Engine):
    """The engine: asks a store, decides by the plans. Safe to share between threads, and to inherit by fork.

    Costs are keywords, such as searches=1, or a mapping where a metric is no identifier, in units: whole numbers from 0
    to 2**53 - 1. Time spans are a timedelta or seconds. Times that are given know their zone, times that are returned
    are in UTC. A denial is a Decision, not an exception.

    Every verb raises InvalidArgumentError for an argument that no call can have, UnknownNameError for a name that no
    plan knows, PlansError where there never were any plans, StoreError where the store cannot answer, and ClosedError
    after close. To admit, consume, check, reserve and require, a store that cannot answer is a denial. As a context
    manager, the engine is closed at the end.
    """

    @staticmethod
    def open(
        store: str | Store,
        /,
        *,
        plans: _PlansSource | _ReadPlans | None = None,
        subscriptions: _ReadSubscription | None = None,
        verifier: _Verify | None = None,
        clock: ManualClock | None = None,
        store_timeout: _Span | None = 5,
        breaker: bool | _Breaker | None = True,
        lease: Literal["auto", "off"] | _Lease | None = "auto",
        enforcement: _Enforcement | None = "enforce",
        catalog_ttl: _Span | None = 300,
        subscription_ttl: _Span | None = 30,
        feed_interval: _Span | None = 1,
        idempotency_ttl: _Span | None = 86_400,
        records_max: int | None = 100_000,
        rates_max: int | None = 100_000,
        verifications_max: int | None = 1_000,
        tokens_max: int | None = 100_000,
        token_ttl: _Span | None = 60,
        refusals_max: int | None = 10_000,
        refusal_ttl: _Span | None = 10,
        tokens_in_store: bool | None = False,
        pepper: bytes | None = None,
        on_event: abc.Callable[[Event], None] | None = None,
        log_events: _LoggedEvents | None = "changes",
    ) -> Quota:
        """Open an engine on the store that a URL names, such as "sqlite:quota.db", "memory:", "postgres://…" or
        "redis://…", or on one of the host's own: see quotum.testing.Store.

        Time spans are a timedelta or seconds. An option that is None is as if it were not given.

        - plans: the path of a plans file, its dictionary, or a quotum.Plans, in force as long as the store has no
          plans; or a function that returns one of them, in place of the store.
        - subscriptions: a function that returns a subject's Subscription, the id of a plan that it is active on, or
          None, in place of the store.
        - verifier: a function that returns the Identity that a token speaks for, the id of a subject, or None.
        - clock: a ManualClock, for tests; the system's by default.
        - store_timeout: how long a request waits for the store; 5 seconds by default.
        - breaker: after how many failures in a row the store is not asked for a while: False for never, or a mapping of
          failures, 5 by default, cool_down, 1 second, and cool_down_max, 30 seconds.
        - lease: whether units are granted from leased blocks, of quotas whose plan does not say: "auto" by default,
          "off", or a mapping of max, the most units of one block, and ttl_s, 1 to 3,600 seconds and 10 by default.
        - enforcement: "enforce" by default, "shadow" or "off", until set_enforcement switches it.
        - catalog_ttl: how long plans are served before they are refreshed; 5 minutes by default.
        - subscription_ttl: how long a subscription is served before the store is asked again; 30 seconds by default.
        - feed_interval: how often the store is asked what other processes have changed; 1 second by default.
        - idempotency_ttl: how long an idempotency key is remembered, and what became of a reservation; 24 hours by
          default.
        - records_max: how many subjects are kept in memory; 100,000 by default.
        - rates_max: how many windows of rates are kept in memory; 100,000 by default.
        - verifications_max: how many tokens may be verified at once; 1,000 by default.
        - tokens_max, token_ttl: how many identities are kept, and how long; 100,000 for 60 seconds by default.
        - refusals_max, refusal_ttl: how many refused tokens are kept, and how long; 10,000 for 10 seconds by default.
        - tokens_in_store: whether identities are kept in the store too, by the digests of their tokens; False by
          default.
        - pepper: a secret of at least 16 random bytes under which tokens are digested, the same in every process that
          shares a store.
        - on_event: an ordinary function that is called with every Event, on a thread of its own.
        - log_events: what the store's log keeps: "changes" by default, "incidents", which is all but successes, or
          "all".

        Raises InvalidArgumentError for a URL or an option that cannot be, PlansError for plans that are refused or
        missing, and StoreError for a store that cannot be opened.
        """
    def to_async(self) -> AsyncQuota:
        """The same engine for asyncio."""
    def acting_as(self, actor: str, /) -> Quota:
        """The same engine, for changes that `actor` makes: the audit trail then says so."""
    def subject(self, id: str, /) -> Subject:
        """A handle to a subject, for whoever asks about it often. The store is not asked yet."""
    def admit(
        self,
        subject: str | None = None,
        costs: _Costs | None = None,
        /,
        *,
        token: str | None = None,
        rate: str | None = None,
        rate_key: _RateKey | None = None,
        rate_cost: int | None = None,
        features: _Features | None = None,
        idempotency_key: str | None = None,
        **units: int,
    ) -> Decision:
        """Decide on everything that one request asks for: a rate, features and costs, all or nothing.

        It is by a subject, by whomever a token speaks for, or, with a rate_key, by nobody who is known. `rate` is the
        scope that it counts on, rate_cost times, for its subject or for rate_key: any text, or an address of
        `ipaddress`. `features` are names, pairs of a name and a value, or a mapping of both.

        Raises ConflictError where the idempotency key was used before with other arguments, and VerifyError where the
        verifier cannot tell.
        """
    def authenticate(self, token: str, /) -> Identity | None:
        """Whom a token speaks for: an Identity, or None for one that is malformed, unknown, revoked or expired.

        Raises VerifyError where the verifier cannot tell, and InvalidArgumentError for an engine without one.
        """
    def consume(
        self, subject: str, costs: _Costs | None = None, /, *, idempotency_key: str | None = None, **units: int
    ) -> Decision:
        """Charge every cost, or none where one does not fit. Under an idempotency key, once.

        Raises ConflictError where the key was used before with other arguments.
        """
    def check(self, subject: str, costs: _Costs | None = None, /, **units: int) -> Decision:
        """Whether it would be allowed now. Consumes nothing, promises nothing."""
    def reserve(
        self,
        subject: str | None = None,
        costs: _Costs | None = None,
        /,
        *,
        ttl: _Span,
        token: str | None = None,
        rate: str | None = None,
        rate_key: _RateKey | None = None,
        rate_cost: int | None = None,
        features: _Features | None = None,
        idempotency_key: str | None = None,
        **units: int,
    ) -> Reservation:
        """Set units aside for a request whose cost is known later, for as long as ttl: a timedelta or seconds, from a
        millisecond to 7 days. Whatever else the request asks for, as in admit, is decided first.

        Raises ConflictError where the idempotency key was used before with other arguments.
        """
    def commit(self, reservation: str, costs: _Costs | None = None, /, **actual: int) -> Settlement:
        """Commit a reservation by its id, in this process or another: see Reservation.commit.

        Raises HoldExpiredError where it is too late, and HoldUnknownError for one that is not known.
        """
    def release(self, reservation: str, /) -> Settlement:
        """Release a reservation by its id: see Reservation.release. Raises as commit does."""
    def refund(self, subject: str, costs: _Costs | None = None, /, **units: int) -> list[QuotaState]:
        """Give back what was consumed in the present periods, overage first and never below zero."""
    def give_back(self, subject: str, costs: _Costs | None = None, /, **units: int) -> list[QuotaState]:
        """Lower levels, such as storage, that never reset."""
    def grant(self, subject: str, costs: _Costs | None = None, /, **units: int) -> list[QuotaState]:
        """Grant units on top of the plan's limits, in the present periods only."""
    def reset_usage(self, subject: str, metric: str, /) -> list[QuotaState]:
        """Forget what was used of a metric in the present periods. What is reserved stays so."""
    def usage(self, subject: str, /) -> Usage:
        """Every quota of a subject, its plan and its state: what an account page shows."""
    def feature(self, subject: str, name: str, /) -> _FeatureValue | None:
        """What a subject's plan has of a feature; None where it has nothing of it."""
    def require(self, subject: str, name: str, value: _FeatureValue | None = None, /) -> Decision:
        """Whether a subject's plan has a feature, or as much of it as value.

        Raises InvalidArgumentError for a value of another kind than the feature's.
        """
    def rate(self, scope: str, key: _RateKey, cost: int | None = None, /) -> RateDecision:
        """The limiter alone: count cost on a scope's rate, for a key that need not be a subject: any text, or an
        address of `ipaddress`. An IPv6 address counts for its /64.
        """
    def refund_rate(self, scope: str, key: _RateKey, units: int | None = None, /) -> RateDecision:
        """Give back units that `rate` has counted for a key, such as a login that went well where only failures are to count.
        Never more than the whole allowance.

        Raises InvalidArgumentError for a scope whose rate is shared.
        """
    def clear_rates(self, key: _RateKey, /) -> None:
        """Give a key its whole allowance back, in every scope, in this process."""
    def plans(self) -> list[Plan]:
        """The plans that the public may see, by rank."""
    def set_plans(self, plans: _PlansSource, /) -> int:
        """Put plans into the store, in place of those it has and of the plans file: quotum.Plans, a plans file's
        dictionary, or its path. Returns their version. In force at once in this process, elsewhere within catalog_ttl.

        Raises PlansError for plans that are refused.
        """
    def subscription(self, subject: str, /) -> Subscription | None:
        """The subscription of a subject as the store has it; None for a subject on the default plan."""
    def subscribe(
        self,
        subject: str,
        plan: str | Subscription,
        /,
        *,
        status: _Status | None = None,
        since: datetime | None = None,
        trial_ends_at: datetime | None = None,
        expires_at: datetime | None = None,
        anchor: datetime | None = None,
        zone: str | None = None,
        account: str | None = None,
        features: abc.Mapping[str, _FeatureValue] | None = None,
        quotas: _Limits | None = None,
    ) -> None:
        """Give a subject a subscription in place of any it had: a Subscription, or a plan's id and the fields of a
        Subscription that are to be said of it. In force at once in this process, elsewhere within a second.
        """
    def cancel(self, subject: str, /) -> Subscription:
        """End a subject's subscription. What is paid for until expires_at still grants.

        Raises InvalidArgumentError for a subject without one.
        """
    def set_overrides(
        self,
        subject: str,
        /,
        *,
        features: abc.Mapping[str, _FeatureValue] | None = None,
        quotas: _Limits | None = None,
    ) -> Subscription:
        """Give a subject features and limits of its own, in place of all it had of its own before, such as
        quotas={"searches": ["5/day", "100/month"]}.
        """
    def set_enforcement(self, mode: _Enforcement, /, *, metric: str | None = None) -> None:
        """Switch enforcement, of everything or of one metric: "enforce", "shadow" or "off". At once in this process,
        within a second in others.
        """
    def subscribers(
        self,
        *,
        after: str | None = None,
        containing: str | None = None,
        plan: str | None = None,
        status: _Status | None = None,
        account: str | None = None,
        limit: int | None = None,
    ) -> list[Subscriber]:
        """Subjects that have a subscription, in the order of their ids, in pages: `after` is the last one of the page
        before, `limit` how many there are on a page, 100 where it is not given.
        """
    def census(self) -> list[Census]:
        """How many subjects are on each plan, by the state of their subscription."""
    def events(
        self,
        *,
        after: int | None = None,
        subject: str | None = None,
        name: _EventName | None = None,
        changes_only: bool = False,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> list[Event]:
        """Read the store's log, in pages: `after` is the sequence of the last event of the page before, `limit` how
        many there are on a page, 100 where it is not given. With changes_only it is the audit trail: who changed what, and when.
        """
    def forget_token(self, token: str, /) -> None:
        """Have a token verified anew, because it was revoked: at once in this process, within a second in others."""
    def forget_subject(self, subject: str, /) -> None:
        """Have every token of a subject verified anew, and its subscription read anew."""
    def close(self) -> None:
        """Charge and return what is owed and leased, and end. Afterwards every verb raises ClosedError.

        Raises StoreError where the store cannot answer: what was owed is lost then.
        """
    def __enter__(self) -> Quota: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

@final
class AsyncQuota(Engine):
    """The engine for asyncio: the verbs of Quota, awaited. None of them blocks the event loop, and what can be answered
    from memory is, without a switch to another task. Arguments and exceptions are those of Quota. Entered by `async
    with`, the engine is closed at the end.
    """

    @staticmethod
    def open(
        store: str | Store,
        /,
        *,
        plans: _PlansSource | _ReadPlans | _AwaitPlans | None = None,
        subscriptions: _ReadSubscription | _AwaitSubscription | None = None,
        verifier: _Verify | _AwaitIdentity | None = None,
        clock: ManualClock | None = None,
        store_timeout: _Span | None = 5,
        breaker: bool | _Breaker | None = True,
        lease: Literal["auto", "off"] | _Lease | None = "auto",
        enforcement: _Enforcement | None = "enforce",
        catalog_ttl: _Span | None = 300,
        subscription_ttl: _Span | None = 30,
        feed_interval: _Span | None = 1,
        idempotency_ttl: _Span | None = 86_400,
        records_max: int | None = 100_000,
        rates_max: int | None = 100_000,
        verifications_max: int | None = 1_000,
        tokens_max: int | None = 100_000,
        token_ttl: _Span | None = 60,
        refusals_max: int | None = 10_000,
        refusal_ttl: _Span | None = 10,
        tokens_in_store: bool | None = False,
        pepper: bytes | None = None,
        on_event: abc.Callable[[Event], None] | None = None,
        log_events: _LoggedEvents | None = "changes",
    ) -> Answer[AsyncQuota]:
        """Open an engine on the store that a URL names, such as "sqlite:quota.db", "memory:", "postgres://…" or
        "redis://…", or on one of the host's own: see quotum.testing.Store.

        Within a running event loop: `await` it, or enter it by `async with`. Functions may be coroutine functions, but
        for on_event.

        Time spans are a timedelta or seconds. An option that is None is as if it were not given.

        - plans: the path of a plans file, its dictionary, or a quotum.Plans, in force as long as the store has no
          plans; or a function that returns one of them, in place of the store.
        - subscriptions: a function that returns a subject's Subscription, the id of a plan that it is active on, or
          None, in place of the store.
        - verifier: a function that returns the Identity that a token speaks for, the id of a subject, or None.
        - clock: a ManualClock, for tests; the system's by default.
        - store_timeout: how long a request waits for the store; 5 seconds by default.
        - breaker: after how many failures in a row the store is not asked for a while: False for never, or a mapping of
          failures, 5 by default, cool_down, 1 second, and cool_down_max, 30 seconds.
        - lease: whether units are granted from leased blocks, of quotas whose plan does not say: "auto" by default,
          "off", or a mapping of max, the most units of one block, and ttl_s, 1 to 3,600 seconds and 10 by default.
        - enforcement: "enforce" by default, "shadow" or "off", until set_enforcement switches it.
        - catalog_ttl: how long plans are served before they are refreshed; 5 minutes by default.
        - subscription_ttl: how long a subscription is served before the store is asked again; 30 seconds by default.
        - feed_interval: how often the store is asked what other processes have changed; 1 second by default.
        - idempotency_ttl: how long an idempotency key is remembered, and what became of a reservation; 24 hours by
          default.
        - records_max: how many subjects are kept in memory; 100,000 by default.
        - rates_max: how many windows of rates are kept in memory; 100,000 by default.
        - verifications_max: how many tokens may be verified at once; 1,000 by default.
        - tokens_max, token_ttl: how many identities are kept, and how long; 100,000 for 60 seconds by default.
        - refusals_max, refusal_ttl: how many refused tokens are kept, and how long; 10,000 for 10 seconds by default.
        - tokens_in_store: whether identities are kept in the store too, by the digests of their tokens; False by
          default.
        - pepper: a secret of at least 16 random bytes under which tokens are digested, the same in every process that
          shares a store.
        - on_event: an ordinary function that is called with every Event, on a thread of its own.
        - log_events: what the store's log keeps: "changes" by default, "incidents", which is all but successes, or
          "all".

        Raises InvalidArgumentError for a URL or an option that cannot be, PlansError for plans that are refused or
        missing, and StoreError for a store that cannot be opened.
        """
    def to_blocking(self) -> Quota:
        """The same engine for synchronous callers, in other threads than the event loop's."""
    def acting_as(self, actor: str, /) -> AsyncQuota:
        """The same engine, for changes that `actor` makes: the audit trail then says so."""
    def subject(self, id: str, /) -> AsyncSubject:
        """A handle to a subject, for whoever asks about it often. The store is not asked yet."""
    async def admit(
        self,
        subject: str | None = None,
        costs: _Costs | None = None,
        /,
        *,
        token: str | None = None,
        rate: str | None = None,
        rate_key: _RateKey | None = None,
        rate_cost: int | None = None,
        features: _Features | None = None,
        idempotency_key: str | None = None,
        **units: int,
    ) -> Decision:
        """Decide on everything that one request asks for: a rate, features and costs, all or nothing.

        It is by a subject, by whomever a token speaks for, or, with a rate_key, by nobody who is known. `rate` is the
        scope that it counts on, rate_cost times, for its subject or for rate_key: any text, or an address of
        `ipaddress`. `features` are names, pairs of a name and a value, or a mapping of both.

        Raises ConflictError where the idempotency key was used before with other arguments, and VerifyError where the
        verifier cannot tell.
        """
    async def authenticate(self, token: str, /) -> Identity | None:
        """Whom a token speaks for: an Identity, or None for one that is malformed, unknown, revoked or expired.

        Raises VerifyError where the verifier cannot tell, and InvalidArgumentError for an engine without one.
        """
    async def consume(
        self, subject: str, costs: _Costs | None = None, /, *, idempotency_key: str | None = None, **units: int
    ) -> Decision:
        """Charge every cost, or none where one does not fit. Under an idempotency key, once.

        Raises ConflictError where the key was used before with other arguments.
        """
    async def check(self, subject: str, costs: _Costs | None = None, /, **units: int) -> Decision:
        """Whether it would be allowed now. Consumes nothing, promises nothing."""
    def reserve(
        self,
        subject: str | None = None,
        costs: _Costs | None = None,
        /,
        *,
        ttl: _Span,
        token: str | None = None,
        rate: str | None = None,
        rate_key: _RateKey | None = None,
        rate_cost: int | None = None,
        features: _Features | None = None,
        idempotency_key: str | None = None,
        **units: int,
    ) -> Answer[AsyncReservation]:
        """Set units aside for a request whose cost is known later, for as long as ttl: a timedelta or seconds, from a
        millisecond to 7 days. Whatever else the request asks for, as in admit, is decided first.

        Raises ConflictError where the idempotency key was used before with other arguments.
        """
    async def commit(self, reservation: str, costs: _Costs | None = None, /, **actual: int) -> Settlement:
        """Commit a reservation by its id, in this process or another: see Reservation.commit.

        Raises HoldExpiredError where it is too late, and HoldUnknownError for one that is not known.
        """
    async def release(self, reservation: str, /) -> Settlement:
        """Release a reservation by its id: see Reservation.release. Raises as commit does."""
    async def refund(self, subject: str, costs: _Costs | None = None, /, **units: int) -> list[QuotaState]:
        """Give back what was consumed in the present periods, overage first and never below zero."""
    async def give_back(self, subject: str, costs: _Costs | None = None, /, **units: int) -> list[QuotaState]:
        """Lower levels, such as storage, that never reset."""
    async def grant(self, subject: str, costs: _Costs | None = None, /, **units: int) -> list[QuotaState]:
        """Grant units on top of the plan's limits, in the present periods only."""
    async def reset_usage(self, subject: str, metric: str, /) -> list[QuotaState]:
        """Forget what was used of a metric in the present periods. What is reserved stays so."""
    async def usage(self, subject: str, /) -> Usage:
        """Every quota of a subject, its plan and its state: what an account page shows."""
    async def feature(self, subject: str, name: str, /) -> _FeatureValue | None:
        """What a subject's plan has of a feature; None where it has nothing of it."""
    async def require(self, subject: str, name: str, value: _FeatureValue | None = None, /) -> Decision:
        """Whether a subject's plan has a feature, or as much of it as value.

        Raises InvalidArgumentError for a value of another kind than the feature's.
        """
    async def rate(self, scope: str, key: _RateKey, cost: int | None = None, /) -> RateDecision:
        """The limiter alone: count cost on a scope's rate, for a key that need not be a subject: any text, or an
        address of `ipaddress`. An IPv6 address counts for its /64.
        """
    async def refund_rate(self, scope: str, key: _RateKey, units: int | None = None, /) -> RateDecision:
        """Give back units that `rate` has counted for a key, such as a login that went well where only failures are to count.
        Never more than the whole allowance.

        Raises InvalidArgumentError for a scope whose rate is shared.
        """
    async def clear_rates(self, key: _RateKey, /) -> None:
        """Give a key its whole allowance back, in every scope, in this process."""
    async def plans(self) -> list[Plan]:
        """The plans that the public may see, by rank."""
    async def set_plans(self, plans: _PlansSource, /) -> int:
        """Put plans into the store, in place of those it has and of the plans file: quotum.Plans, a plans file's
        dictionary, or its path. Returns their version. In force at once in this process, elsewhere within catalog_ttl.

        Raises PlansError for plans that are refused.
        """
    async def subscription(self, subject: str, /) -> Subscription | None:
        """The subscription of a subject as the store has it; None for a subject on the default plan."""
    async def subscribe(
        self,
        subject: str,
        plan: str | Subscription,
        /,
        *,
        status: _Status | None = None,
        since: datetime | None = None,
        trial_ends_at: datetime | None = None,
        expires_at: datetime | None = None,
        anchor: datetime | None = None,
        zone: str | None = None,
        account: str | None = None,
        features: abc.Mapping[str, _FeatureValue] | None = None,
        quotas: _Limits | None = None,
    ) -> None:
        """Give a subject a subscription in place of any it had: a Subscription, or a plan's id and the fields of a
        Subscription that are to be said of it. In force at once in this process, elsewhere within a second.
        """
    async def cancel(self, subject: str, /) -> Subscription:
        """End a subject's subscription. What is paid for until expires_at still grants.

        Raises InvalidArgumentError for a subject without one.
        """
    async def set_overrides(
        self,
        subject: str,
        /,
        *,
        features: abc.Mapping[str, _FeatureValue] | None = None,
        quotas: _Limits | None = None,
    ) -> Subscription:
        """Give a subject features and limits of its own, in place of all it had of its own before, such as
        quotas={"searches": ["5/day", "100/month"]}.
        """
    async def set_enforcement(self, mode: _Enforcement, /, *, metric: str | None = None) -> None:
        """Switch enforcement, of everything or of one metric: "enforce", "shadow" or "off". At once in this process,
        within a second in others.
        """
    async def subscribers(
        self,
        *,
        after: str | None = None,
        containing: str | None = None,
        plan: str | None = None,
        status: _Status | None = None,
        account: str | None = None,
        limit: int | None = None,
    ) -> list[Subscriber]:
        """Subjects that have a subscription, in the order of their ids, in pages: `after` is the last one of the page
        before, `limit` how many there are on a page, 100 where it is not given.
        """
    async def census(self) -> list[Census]:
        """How many subjects are on each plan, by the state of their subscription."""
    async def events(
        self,
        *,
        after: int | None = None,
        subject: str | None = None,
        name: _EventName | None = None,
        changes_only: bool = False,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> list[Event]:
        """Read the store's log, in pages: `after` is the sequence of the last event of the page before, `limit` how
        many there are on a page, 100 where it is not given. With changes_only it is the audit trail: who changed what, and when.
        """
    async def forget_token(self, token: str, /) -> None:
        """Have a token verified anew, because it was revoked: at once in this process, within a second in others."""
    async def forget_subject(self, subject: str, /) -> None:
        """Have every token of a subject verified anew, and its subscription read anew."""
    async def close(self) -> None:
        """Charge and return what is owed and leased, and end. Afterwards every verb raises ClosedError.

        Raises StoreError where the store cannot answer: what was owed is lost then.
        """
    async def __aenter__(self) -> AsyncQuota: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

@final
class Mapping:
    """How decisions become responses: a status for each reason, and which header fields are sent.

    `statuses` are those that are not the usual ones, such as {"quota_exhausted": 402}, from 400 to 599. `fields` are
    "standard", which is usual, "legacy", "both" or "none". Raises InvalidArgumentError for others.
    """

    def __new__(
        cls, *, statuses: abc.Mapping[_Reason, int] | None = None, fields: _Fields | None = None
    ) -> Self: ...
    def answer(self, decision: Decision, now: datetime | None = None, /) -> HttpAnswer:
        """What to tell the client about a decision that was made `now`, which is the time where it is not given."""
    def answer_error(self, error: BaseException, now: datetime | None = None, /) -> HttpAnswer:
        """What to tell the client where an exception kept the engine from deciding. It is never to be let pass. An
        exception that is not this library's is the backend's own: it is raised again.
        """
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class HttpAnswer:
    """What to tell the client: header fields, and in place of what was asked for, where it is denied, a status and a
    body.
    """

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Header fields: names in lower case, and values."""
    @property
    def status(self) -> int | None:
        """The status of a denial; None where the request is allowed."""
    @property
    def content_type(self) -> str | None:
        """What the body of a denial is: "application/problem+json"."""
    @property
    def body(self) -> str | None:
        """The body of a denial: a problem document."""
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

def end_calls() -> None:
    """Let no thread of the core's call Python any more, and wait for those that do."""
def token_of(authorization: abc.Sequence[bytes], api_key: abc.Sequence[bytes], /) -> str | None:
    """The token of `Authorization: Bearer`, or else of `X-API-Key`, by the values of both fields; None without one."""

def check_store(factory: abc.Callable[[], Store], /) -> list[tuple[str, str | None]]:
    """Run every rule of the conformance suite, each on a new and empty store that `factory` returns: the rules, each with
    what was broken of it, or None.
    """
def client_address(
    trusted_hops: int, peer: _RateKey, forwarded_for: abc.Sequence[bytes], /
) -> IPv4Address | IPv6Address:
    """The address that a request comes from, behind so many trusted proxies, by the lines of `X-Forwarded-For`.

    Raises InvalidArgumentError for a peer that is no address.
    """
