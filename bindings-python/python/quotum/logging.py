"""Events to Python's logging, under their names.

    quota = quotum.Quota.open(url, plans="plans.toml", on_event=quotum.logging.log)

Each event is told to the logger of its name, such as `quotum.quota_exhausted`, so that one kind of them can be silenced,
or sent elsewhere, as any other logger. What is known of it is in the text, and as a dictionary in the record's attribute
`quotum`, for formatters that write JSON. What the engine itself warns of, such as plans that cannot be refreshed, goes to
the logger `quotum`, whether or not this is used.
"""

from __future__ import annotations

import logging

from ._native import Event

__all__ = ["LEVELS", "log"]

LEVELS: dict[str, int] = {
    "quota_check_success": logging.DEBUG,
    "cache_evicted": logging.DEBUG,
    "leases_recalled": logging.DEBUG,
    "quota_check_error": logging.ERROR,
    "degraded_grant": logging.WARNING,
    "quota_threshold_reached": logging.WARNING,
    "hold_expired": logging.WARNING,
}
"""The levels of events; of every other, INFO. They may be changed."""


def log(event: Event) -> None:
    """Log an event: what `on_event` of an engine takes."""
    logger = logging.getLogger(f"quotum.{event.name}")
    level = LEVELS.get(event.name, logging.INFO)
    if not logger.isEnabledFor(level):
        return
    fields = event.to_dict()
    known = {name: value for name, value in fields.items() if name not in ("name", "at", "source")}
    text = " ".join(f"{name}={value}" for name, value in known.items())
    logger.log(level, "%s %s", event.name, text, extra={"quotum": fields})
