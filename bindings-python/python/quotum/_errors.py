"""What can go wrong, other than a denial: a denial is a Decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ._native import Decision

Retry = Literal["never", "safe", "outcome_unknown"]
"""Whether the same call may be made again."""


class QuotumError(Exception):
    """What went wrong, other than a denial: a denial is a Decision."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process is told what was said, and not what the engine or a decision was.
        return _rebuilt, (type(self), str(self), {name: value for name, value in vars(self).items() if _is_plain(value)})


def _is_plain(value: object) -> bool:
    return isinstance(value, (str, list))


def _rebuilt(kind: type[QuotumError], text: str, fields: dict[str, Any]) -> QuotumError:
    error = kind.__new__(kind, text)
    vars(error).update(fields)
    return error


class InvalidArgumentError(QuotumError, ValueError):
    """An argument that no call can have. Its text names it. Correct the call; asking again will not help."""


class UnknownNameError(QuotumError, ValueError):
    """A plan, metric, feature or scope that no plan knows: most often a typing error."""

    what: str
    """What kind of name: `plan`, `metric`, `feature` or `scope`."""
    name: str
    """The name that is not known."""
    known: list[str]
    """The names that are."""

    def __init__(self, message: str, what: str = "", name: str = "", known: list[str] | None = None) -> None:
        super().__init__(message)
        self.what = what
        self.name = name
        self.known = known or []


class PlansError(QuotumError, ValueError):
    """Plans that were refused, or that are missing. The plans in force stay in force."""


class ConflictError(QuotumError):
    """An idempotency key that was used before with other arguments. Use a new key for another request."""


class ConflictedError(QuotumError):
    """A transaction of a store of one's own that has to be made again, because another was faster: the store raises it."""


class HoldExpiredError(QuotumError):
    """A reservation that was settled too late: its units had been given back, and nothing was charged."""


class HoldUnknownError(QuotumError, LookupError):
    """A reservation that was never made here, or was resolved long ago."""


class VerifyError(QuotumError):
    """It is not known whether a token is valid: the verifier raised, or too many tokens are being verified."""

    retry: Retry
    """Whether the same token may be given again."""

    def __init__(self, message: str, retry: Retry = "never") -> None:
        super().__init__(message)
        self.retry = retry


class StoreError(QuotumError):
    """The store could not answer. Its text says what to do."""

    retry: Retry
    """Whether the same call may be made again: `outcome_unknown` where it may have been done."""

    def __init__(self, message: str, retry: Retry = "never") -> None:
        super().__init__(message)
        self.retry = retry


class ClosedError(QuotumError):
    """The engine was closed. Open another one."""


class DeniedError(QuotumError):
    """A denial, for those who want one as an exception: see Decision.raise_for_denied."""

    decision: Decision
    """The denied decision. An exception that comes from another process has none."""

    def __init__(self, message: str, decision: Decision) -> None:
        super().__init__(message)
        self.decision = decision
