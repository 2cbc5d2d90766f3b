"""Embedded quota enforcement: may this caller do this now, and what is left?

A backend opens an engine once, on a plans file and a store, and asks it on every request:

    import quotum

    quota = quotum.Quota.open("sqlite:quota.db", plans="plans.toml")
    decision = quota.consume("user-42", searches=1)
    if not decision:
        print(decision.reason, decision.upgrade_to)

Quota waits for its answers, AsyncQuota has the same verbs for asyncio. A denial is a value, not an exception.

    quotum.http      what to tell HTTP clients of decisions
    quotum.fastapi   dependencies, an exception handler and a router
    quotum.asgi      a middleware for Starlette and others
    quotum.flask     an extension
    quotum.django    a middleware and a decorator
    quotum.logging   events to Python's logging
    quotum.testing   the conformance suite, for stores of one's own
"""

from ._errors import (
    ClosedError,
    ConflictedError,
    ConflictError,
    DeniedError,
    HoldExpiredError,
    HoldUnknownError,
    InvalidArgumentError,
    PlansError,
    QuotumError,
    StoreError,
    UnknownNameError,
    VerifyError,
)
from ._native import (
    Answer,
    AsyncQuota,
    AsyncReservation,
    AsyncSubject,
    CatalogStatus,
    Census,
    Decision,
    Denial,
    Event,
    Identity,
    ManualClock,
    Plan,
    Plans,
    Quota,
    QuotaState,
    RateDecision,
    RateState,
    Reservation,
    Settlement,
    Subject,
    Subscriber,
    Subscription,
    Usage,
    __version__,
)

__all__ = [
    "Answer",
    "AsyncQuota",
    "AsyncReservation",
    "AsyncSubject",
    "CatalogStatus",
    "Census",
    "ClosedError",
    "ConflictError",
    "ConflictedError",
    "Decision",
    "Denial",
    "DeniedError",
    "Event",
    "HoldExpiredError",
    "HoldUnknownError",
    "Identity",
    "InvalidArgumentError",
    "ManualClock",
    "Plan",
    "Plans",
    "PlansError",
    "Quota",
    "QuotaState",
    "QuotumError",
    "RateDecision",
    "RateState",
    "Reservation",
    "Settlement",
    "StoreError",
    "Subject",
    "Subscriber",
    "Subscription",
    "UnknownNameError",
    "Usage",
    "VerifyError",
    "__version__",
]
