"""Tenders: what is searched for, and what is found. A real backend would ask the portals of the authorities."""

from __future__ import annotations

import asyncio
import csv
import io
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from pydantic import BaseModel, Field


class Query(BaseModel):
    """What a user searches for, and how many days back."""

    text: str = Field(min_length=1, max_length=200)
    days: int = Field(7, ge=1)


class Tender(BaseModel):
    """One call for tenders."""

    title: str
    days_ago: int


class PortalDown(Exception):
    """The portal could not be searched."""


Portal: TypeAlias = Callable[[Query], Awaitable[list[Tender]]]


async def made_up_portal(query: Query) -> list[Tender]:
    """Finds one tender a week."""
    await asyncio.sleep(0)
    return [Tender(title=f"{query.text}, lot {day // 7 + 1}", days_ago=day) for day in range(0, query.days, 7)]


@dataclass(frozen=True)
class Result:
    """What a user has found."""

    id: str
    user: str
    tenders: list[Tender]

    def summary(self, tokens_max: int) -> str:
        """Everything in so many words."""
        words = [word for tender in self.tenders for word in f"{tender.title};".split()]
        return " ".join(words[:tokens_max])

    def sheet(self) -> str:
        """A table that Excel opens."""
        text = io.StringIO()
        rows = csv.writer(text)
        rows.writerow(["title", "days ago"])
        rows.writerows([tender.title, tender.days_ago] for tender in self.tenders)
        return text.getvalue()


class Results:
    """The latest results, which their users may ask for again."""

    def __init__(self, results_max: int = 10_000) -> None:
        self._results: OrderedDict[str, Result] = OrderedDict()
        self._results_max = results_max

    def add(self, user: str, tenders: list[Tender]) -> Result:
        result = Result(secrets.token_urlsafe(9), user, tenders)
        self._results[result.id] = result
        if len(self._results) > self._results_max:
            self._results.popitem(last=False)
        return result

    def get(self, id: str, user: str) -> Result | None:
        """The result, if it is the user's."""
        result = self._results.get(id)
        return result if result and result.user == user else None
