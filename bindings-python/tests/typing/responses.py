"""What an integration writes about HTTP: mypy --strict and pyright accept all of it."""

from __future__ import annotations

from datetime import datetime, timezone

import quotum
import quotum.http

MAPPING = quotum.http.Mapping(statuses={"quota_exhausted": 402, "rate_limited": 429}, fields="both")


def respond(quota: quotum.Quota, headers: dict[bytes, bytes]) -> tuple[int, list[tuple[str, str]], str]:
    try:
        token = quotum.http.token_of([headers[b"authorization"]], [])
        answer = MAPPING.answer(quota.admit(token=token, searches=1), datetime.now(timezone.utc))
    except quotum.QuotumError as error:
        answer = MAPPING.answer_error(error)
    return answer.status or 200, answer.fields, answer.body or ""


def address_of(peer: str, forwarded_for: list[bytes]) -> str:
    return str(quotum.http.client_address(1, peer, forwarded_for))
