"""The setting QUOTUM: a dictionary, and what it stands for. What is wrong in it is said by its name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings  # type: ignore[import-untyped, unused-ignore]
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped, unused-ignore]
from django.core.signals import setting_changed  # type: ignore[import-untyped, unused-ignore]
from django.utils.module_loading import import_string  # type: ignore[import-untyped, unused-ignore]

from .. import http
from .._errors import QuotumError
from .._native import AsyncQuota, Plans, Quota

_NAMES = ("URL", "PLANS", "OPTIONS", "QUOTA", "ASK", "SUBJECT", "STATUSES", "FIELDS", "TRUSTED_HOPS")
_FUNCTIONS = ("verifier", "subscriptions", "on_event")
"""Options of an engine that may be named by their dotted paths."""


@dataclass(frozen=True)
class Configured:
    """What the settings stand for."""

    quota: Quota
    async_quota: AsyncQuota
    mapping: http.Mapping
    ask: Callable[..., Any] | None
    subject: Callable[..., Any] | None
    trusted_hops: int


class _Settings:
    """Reads the settings, each by itself."""

    def __init__(self) -> None:
        given = getattr(settings, "QUOTUM", None)
        if not isinstance(given, dict):
            raise ImproperlyConfigured(f"QUOTUM is {given!r}: give a dictionary")
        self._given: dict[str, Any] = given

    def names(self) -> None:
        for name in self._given:
            if name not in _NAMES:
                raise ImproperlyConfigured(f"QUOTUM has {name!r}, which is no setting of it: {', '.join(_NAMES)} are")

    def ask(self) -> Callable[..., Any] | None:
        return self._function("ASK")

    def subject(self) -> Callable[..., Any] | None:
        return self._function("SUBJECT")

    def mapping(self) -> http.Mapping:
        try:
            return http.Mapping(statuses=self._given.get("STATUSES"), fields=self._given.get("FIELDS"))
        except (QuotumError, TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"QUOTUM['STATUSES'] or QUOTUM['FIELDS']: {error}") from error

    def trusted_hops(self) -> int:
        hops = self._given.get("TRUSTED_HOPS", 0)
        if not isinstance(hops, int) or hops < 0:
            raise ImproperlyConfigured(f"QUOTUM['TRUSTED_HOPS'] is {hops!r}: give the number of proxies, from 0")
        return hops

    def source(self) -> Callable[[], Quota]:
        """What opens the engine."""
        if "QUOTA" in self._given:
            quota = self._imported("QUOTUM['QUOTA']", self._given["QUOTA"])
            return (lambda: quota) if isinstance(quota, Quota) else _callable("QUOTUM['QUOTA']", quota)
        for name in ("URL", "PLANS"):
            if name not in self._given:
                raise ImproperlyConfigured(f"QUOTUM['{name}'] is missing, and QUOTUM['QUOTA'] too: give one of them")
        url, plans, options = self._given["URL"], self._given["PLANS"], self._options()
        if isinstance(plans, (str, PathLike)):
            _check_file(plans)
        return lambda: Quota.open(url, plans=plans, **options)

    def _options(self) -> dict[str, Any]:
        options = dict(self._given.get("OPTIONS", {}))
        for name in _FUNCTIONS:
            if name in options:
                where = f"QUOTUM['OPTIONS'][{name!r}]"
                options[name] = _callable(where, self._imported(where, options[name]))
        return options

    def _function(self, name: str) -> Callable[..., Any] | None:
        value = self._imported(f"QUOTUM['{name}']", self._given.get(name))
        return None if value is None else _callable(f"QUOTUM['{name}']", value)

    def _imported(self, where: str, value: Any) -> Any:
        try:
            return import_string(value) if isinstance(value, str) else value
        except ImportError as error:
            raise ImproperlyConfigured(f"{where} is {value!r}: {error}") from error


def _callable(where: str, value: Any) -> Callable[..., Any]:
    if not callable(value):
        raise ImproperlyConfigured(f"{where} is {value!r}: give a function, or its dotted path")
    function: Callable[..., Any] = value
    return function


def _check_file(plans: str | PathLike[str]) -> None:
    try:
        Plans.from_file(plans)
    except QuotumError as error:
        raise ImproperlyConfigured(f"QUOTUM['PLANS']: {error}") from error


def problems() -> Iterator[str]:
    """What is wrong in the settings. Nothing is opened for it."""
    try:
        ours = _Settings()
    except ImproperlyConfigured as error:
        yield str(error)
        return
    for read in (ours.names, ours.source, ours.ask, ours.subject, ours.mapping, ours.trusted_hops):
        try:
            read()
        except ImproperlyConfigured as error:
            yield str(error)


_lock = threading.Lock()
_configured: Configured | None = None


def configured() -> Configured:
    """What the settings stand for, with the engine, which is opened when it is first wanted."""
    global _configured
    if _configured is None:
        with _lock:
            _configured = _configured or _open(_Settings())
    return _configured


async def aconfigured() -> Configured:
    """The same, opened on another thread than the event loop's."""
    return _configured or await sync_to_async(configured)()


def _open(ours: _Settings) -> Configured:
    ours.names()
    ask, subject, mapping, trusted_hops = ours.ask(), ours.subject(), ours.mapping(), ours.trusted_hops()
    quota = ours.source()()
    return Configured(quota, quota.to_async(), mapping, ask, subject, trusted_hops)


def _forget(*, setting: str, **_: Any) -> None:
    """Tests override settings."""
    global _configured
    if setting == "QUOTUM":
        _configured = None


setting_changed.connect(_forget)
