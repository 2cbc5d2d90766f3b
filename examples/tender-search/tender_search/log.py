"""The log: one line of JSON for each event, under the names that the dashboards and alerts of this backend know.

Quotum's events come by `quotum.logging.log`, with what is known of them in the record's attribute `quotum`.
"""

from __future__ import annotations

import json
import logging
from typing import Any

EVENTS = {
    ("feature_blocked", "allow_excel"): "excel_blocked",
    ("feature_value_blocked", "max_history_days"): "history_range_blocked",
    ("rate_limited", "api"): "rate_limit_check",
}
"""Names for events about a feature or a scope of ours; every other keeps Quotum's."""

FIELDS = {
    "subject": "user_id",
    "plan": "plan_id",
    "used": "quota_used",
    "limit": "quota_limit",
    "remaining": "quota_remaining",
    "resets_at": "quota_reset_date",
    "upgrade_to": "upgrade_suggestion",
}


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"at": self.formatTime(record), "level": record.levelname, "event": record.getMessage()}
        event: dict[str, Any] = dict(getattr(record, "quotum", {}))
        if event:
            name = event.pop("name")
            line["event"] = EVENTS.get((name, event.get("metric", "")), name)
            line.update({FIELDS.get(field, field): value for field, value in event.items()})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_json() -> None:
    """Have everything logged, successes too, to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("quotum").setLevel(logging.DEBUG)
