from os import PathLike
from typing import final

__version__: str

class QuotumError(Exception):
    """What went wrong, other than a denial: a denial is a Decision."""

@final
class Decision:
    """Allowed, or denied and why. True where the request may go on."""

    @property
    def allowed(self) -> bool:
        """Whether the request may go on."""
    @property
    def plan(self) -> str:
        """The id of the plan that decided."""
    @property
    def reason(self) -> str | None:
        """Why the request is denied, such as "quota_exhausted"; None where it is allowed."""
    @property
    def upgrade_to(self) -> str | None:
        """The cheapest plan by rank that would have allowed the request."""
    def __bool__(self) -> bool: ...

@final
class Quota:
    """The engine: asks a store, decides by the plans. Safe to share between threads."""

    @staticmethod
    def open(url: str, *, plans: str | PathLike[str]) -> Quota:
        """Open the store that a URL names, such as "sqlite:quota.db" or "memory:".

        plans is a plans file, TOML or JSON. Raises QuotumError where either cannot be used.
        """
    def consume(self, subject: str, **costs: int) -> Decision:
        """Charge every cost, such as searches=1, or none.

        Raises QuotumError for costs that no plan could have, and where the store cannot answer.
        """
