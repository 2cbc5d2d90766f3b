"""What happens, and what the engine warns of, is told to Python's logging."""

from __future__ import annotations

import logging
import pathlib
import time
from typing import Any

import pytest

import quotum
import quotum.logging

PLANS: dict[str, Any] = {"default_plan": "free", "plans": {"free": {"quotas": {"jobs": "2/total"}}}}


def wait_until(is_so: Any) -> None:
    until = time.monotonic() + 10
    while not is_so() and time.monotonic() < until:
        time.sleep(0.01)
    assert is_so()


def test_events_are_logged_under_their_names(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="quotum")
    with quotum.Quota.open("memory:", plans=PLANS, on_event=quotum.logging.log) as quota:
        for _ in range(3):
            quota.consume("ana", jobs=1)
    records = {record.name: record for record in caplog.records}
    assert records["quotum.quota_check_success"].levelno == logging.DEBUG
    assert records["quotum.quota_threshold_reached"].levelno == logging.WARNING
    denied = records["quotum.quota_exhausted"]
    assert denied.levelno == logging.INFO
    assert denied.getMessage().startswith("quota_exhausted subject=ana plan=free reason=quota_exhausted metric=jobs")
    assert vars(denied)["quotum"]["used"] == 2


def test_an_event_that_nobody_wants_is_not_written(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="quotum")
    with quotum.Quota.open("memory:", plans=PLANS, on_event=quotum.logging.log) as quota:
        quota.consume("ana", jobs=1)
    assert not [record for record in caplog.records if record.name == "quotum.quota_check_success"]


def test_what_the_engine_warns_of_is_logged(caplog: pytest.LogCaptureFixture, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "plans.json"
    file.write_text('{"default_plan": "free", "plans": {"free": {"quotas": {"jobs": "2/total"}}}}')
    with quotum.Quota.open("memory:", plans=file, catalog_ttl=0) as quota:
        assert quota.consume("ana", jobs=1)
        file.write_text('{"default_plan": "gold"}')
        wait_until(lambda: quota.consume("ana", jobs=1) is not None and "quotum" in {r.name for r in caplog.records})
    warned = next(record for record in caplog.records if record.name == "quotum")
    assert warned.levelno >= logging.WARNING
    assert "gold" in warned.getMessage() or "plans" in warned.getMessage()
