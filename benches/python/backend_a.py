"""The limiter of a real backend, a search engine for tenders, that Quotum is to replace.

A reconstruction, written anew from what that backend does and without its Redis: a table of (key of the user and the
minute) -> (count, since when). What makes it slow is kept as it was: every request copies the whole table to leave out
what is over a minute old, and one that finds the table over its bound sorts it too, to drop what is oldest. What is
dropped begins anew, so that whoever asks under many names gets a fresh allowance.
"""

from __future__ import annotations

from datetime import datetime, timezone

KEYS_MAX = 10_000
WINDOW_S = 60


class Limiter:
    """Counts requests by the minute."""

    def __init__(self) -> None:
        self._table: dict[str, tuple[int, float]] = {}

    @classmethod
    def with_live(cls, users: list[str]) -> Limiter:
        """One that has just counted a request of each of these: asking it for as many would take their square."""
        limiter, now = cls(), datetime.now(timezone.utc)
        limiter._table = {_key(user, now): (1, now.timestamp()) for user in users}
        return limiter

    def allows(self, user: str, limit: int) -> bool:
        """Counts a request."""
        now = datetime.now(timezone.utc)
        key, now_s = _key(user, now), now.timestamp()
        self._clean(now_s)
        count, since_s = self._table.get(key, (0, now_s))
        if count >= limit:
            return False
        self._table[key] = (count + 1, since_s)
        return True

    def _clean(self, now_s: float) -> None:
        live = {key: (count, since_s) for key, (count, since_s) in self._table.items() if now_s - since_s < WINDOW_S}
        if len(live) > KEYS_MAX:
            by_age = sorted(live.items(), key=lambda item: item[1][1])
            live = dict(by_age[-KEYS_MAX:])
        self._table = live


def _key(user: str, now: datetime) -> str:
    return f"rate_limit:{user}:{now.strftime('%Y-%m-%dT%H:%M')}"
