"""Embedded quota enforcement: may this caller do this now, and what is left?"""

from ._errors import (
    ClosedError,
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
from ._native import Decision, Denial, Quota, QuotaState, Reservation, Settlement, Usage, __version__

__all__ = [
    "ClosedError",
    "ConflictError",
    "Decision",
    "Denial",
    "DeniedError",
    "HoldExpiredError",
    "HoldUnknownError",
    "InvalidArgumentError",
    "PlansError",
    "Quota",
    "QuotaState",
    "QuotumError",
    "Reservation",
    "Settlement",
    "StoreError",
    "UnknownNameError",
    "Usage",
    "VerifyError",
    "__version__",
]
