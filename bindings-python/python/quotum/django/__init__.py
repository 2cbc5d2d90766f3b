"""Quotas for Django: a middleware, decorators for views, and system checks.

    INSTALLED_APPS = [..., "quotum.django"]
    MIDDLEWARE = [..., "quotum.django.QuotaMiddleware"]
    QUOTUM = {
        "URL": "sqlite:quota.db",
        "PLANS": BASE_DIR / "plans.toml",
        "OPTIONS": {"verifier": "shop.tokens.verify"},
        "ASK": "shop.quotas.ask",
        "TRUSTED_HOPS": 1,
    }

`ASK` is a function of the backend's that says what a request asks for, or None for nothing:

    from quotum.django import Ask, token

    def ask(request):
        return Ask(token=token(request), rate="api") if request.path.startswith("/api/") else None

What single views ask for is said by decorators; `method_decorator` puts them on classes. A part of it may be a function
that finds it in the request:

    from quotum import django as quotas

    @quotas.consume(searches=1)
    def search(request):
        return HttpResponse(f"found for {request.quotum.subject}")

    @quotas.rate("login", quotas.address)
    def login(request): ...

    @quotas.require("max_history_days", lambda request: int(request.GET.get("days", 7)))
    async def history(request): ...

`request.quotum` is the decision, and `request.quotum_reservation` what `reserve` has set aside: a Reservation, or in
a view that is a coroutine function, an AsyncReservation. What of it is not committed is given back when the response
has been sent, could not be sent, or the client has gone away.

The other settings: `QUOTA`, an engine, or a function that opens one, in place of `URL`, `PLANS` and `OPTIONS`;
`SUBJECT`, a function that returns the id of the subject who makes a request, or None for nobody who is known, in place
of the bearer of a token; `STATUSES` and `FIELDS`, as quotum.http.Mapping takes them. Functions are given by their
dotted paths, or themselves. A denial or another quotum.QuotumError that a view raises is answered too, by the
middleware.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias, TypeVar, cast

try:
    from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction, sync_to_async
    from django.http import HttpResponse  # type: ignore[import-untyped, unused-ignore]
except ImportError as error:
    raise ImportError("quotum.django needs Django: pip install django") from error

from .. import _gate, http
from .._errors import QuotumError
from .._gate import Address, Admission, Ask, awaited, waited
from .._native import Quota
from .._rule import Rule, Verbs
from ._settings import aconfigured, configured

__all__ = ["Ask", "QuotaMiddleware", "address", "admit", "consume", "engine", "rate", "require", "reserve", "token"]

# Django has no types of its own.
Request: TypeAlias = Any
Response: TypeAlias = Any
View = TypeVar("View", bound=Callable[..., Any])


class Decorator(Protocol):
    """Put on a view, which may be a coroutine function."""

    def __call__(self, view: View, /) -> View: ...


def token(request: Request) -> str:
    """The token of `Authorization: Bearer`, or else of `X-API-Key`. An empty one, which speaks for nobody, where there
    is none."""
    return http.token_of(_values(request, "Authorization"), _values(request, "X-API-Key")) or ""


def address(request: Request) -> Address:
    """The client's address, as the key of a rate."""
    peer = request.META.get("REMOTE_ADDR")
    return _gate.address(configured().trusted_hops, peer, _values(request, "X-Forwarded-For"))


def engine() -> Quota:
    """The engine that the settings name, which is opened when it is first wanted."""
    return configured().quota


class QuotaMiddleware:
    """Admits requests before what it is put around, as the setting `ASK` says, and answers denials and errors."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Request], Any]) -> None:
        self._get_response = get_response
        self._ask = configured().ask
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Request) -> Any:
        if self._is_async:
            return self._awaited(request)
        ask = _called(self._ask, request) if self._ask else None
        return _serve(request, ask, self._get_response) if ask else self._get_response(request)

    async def _awaited(self, request: Request) -> Response:
        ask = await _acalled(self._ask, request) if self._ask else None
        return await (_aserve(request, ask, self._get_response) if ask else self._get_response(request))

    def process_exception(self, request: Request, error: Exception) -> Response | None:
        """Answer what a view has raised, if it is about quotas."""
        return _refused(error) if isinstance(error, QuotumError) else None


class _Decorators(Verbs[Decorator, Decorator]):
    def _deciding(self, rule: Rule) -> Decorator:
        def decorate(view: View) -> View:
            @functools.wraps(view)
            def serving(request: Request, *args: Any, **kwargs: Any) -> Response:
                return _serve(request, _asked(rule, request), lambda request: view(request, *args, **kwargs))

            @functools.wraps(view)
            async def aserving(request: Request, *args: Any, **kwargs: Any) -> Response:
                ask = await _aasked(rule, request)
                return await _aserve(request, ask, lambda request: view(request, *args, **kwargs))

            return cast(View, aserving if iscoroutinefunction(view) else serving)

        return decorate

    _reserving = _deciding


_decorators = _Decorators()
admit, consume, require = _decorators.admit, _decorators.consume, _decorators.require
rate, reserve = _decorators.rate, _decorators.reserve


def _asked(rule: Rule, request: Request) -> Ask:
    subject = None if rule.is_by_anyone else configured().subject
    caller = (None, token(request)) if subject is None else _gate.named(_called(subject, request))
    return rule.ask(*caller, lambda function: function(request))


async def _aasked(rule: Rule, request: Request) -> Ask:
    subject = None if rule.is_by_anyone else (await aconfigured()).subject
    caller = (None, token(request)) if subject is None else _gate.named(await _acalled(subject, request))
    ask = functools.partial(rule.ask, *caller, lambda function: function(request))
    # Functions of the backend's may read a database.
    return await sync_to_async(ask)() if rule.functions else ask()


def _called(function: Callable[..., Any], request: Request) -> Any:
    return async_to_sync(function)(request) if iscoroutinefunction(function) else function(request)


async def _acalled(function: Callable[..., Any], request: Request) -> Any:
    return await (function if iscoroutinefunction(function) else sync_to_async(function))(request)


def _serve(request: Request, ask: Ask, view: Callable[[Request], Response]) -> Response:
    ours = configured()
    try:
        admission = waited(_gate.admit(ours.quota, ask))
        fields = admission.fields(ours.mapping, ours.quota.now)
    except QuotumError as error:
        return _refused(error)
    with _let_in(request, admission):
        return _finished(view(request), admission, fields)


async def _aserve(request: Request, ask: Ask, view: Callable[[Request], Awaitable[Response]]) -> Response:
    ours = await aconfigured()
    try:
        admission = await awaited(_gate.admit(ours.async_quota, ask))
        fields = admission.fields(ours.mapping, ours.quota.now)
    except QuotumError as error:
        return _refused(error)
    with _let_in(request, admission):
        return _finished(await view(request), admission, fields)


@contextmanager
def _let_in(request: Request, admission: Admission) -> Iterator[None]:
    """Tells a view of its admission, and gives back what was reserved for it where it raises."""
    request.quotum, request.quotum_reservation = admission.decision, admission.reservation
    try:
        yield
    except BaseException:
        admission.let_go()
        raise


def _finished(response: Response, admission: Admission, fields: list[tuple[str, str]]) -> Response:
    """Tell the client of its limits. What is reserved for a response is so until its last part."""
    for name, value in fields:
        present = response.headers.get(name)
        if present is None:
            response.headers[name] = value
        elif _gate.is_list(name):
            response.headers[name] = f"{present}, {value}"
    response.close = functools.partial(_close, response.close, admission)
    return response


def _close(close: Callable[[], None], admission: Admission) -> None:
    admission.let_go()
    close()


def _refused(error: QuotumError) -> Response:
    ours = configured()
    answer = _gate.refusal(error, ours.mapping, ours.quota.now)
    body = (answer.body or "").encode()
    return HttpResponse(body, status=answer.status, content_type=answer.content_type, headers=dict(answer.fields))


def _values(request: Request, header: str) -> list[bytes]:
    value = request.headers.get(header)
    return [] if value is None else [value.encode()]
