"""Quotas for Flask: an extension with decorators, commands and a blueprint.

    from quotum.flask import Quotas

    quotas = Quotas()

    def create_app():
        app = Flask(__name__)
        app.config.update(QUOTUM_URL="sqlite:quota.db", QUOTUM_PLANS="plans.toml", QUOTUM_OPTIONS={"verifier": verify})
        quotas.init_app(app)
        app.register_blueprint(quotas.blueprint(), url_prefix="/api")
        return app

    @app.get("/search")
    @quotas.admit(rate="api", searches=1)
    def search():
        return f"found for {g.quotum_decision.subject}"

    @app.post("/login")
    @quotas.rate("login", quotas.address)
    def login(): ...

A part of what is asked, such as a cost or a feature's value, may be a function that finds it in `flask.request`:

    @quotas.require("max_history_days", lambda: request.args.get("days", 7, type=int))

One decorator asks the engine once, for all that it names. `Quotas(default=Rule(rate="api"))` asks for every endpoint,
but for those that are `@quotas.exempt`. Where costs are known only afterwards, they are reserved:

    @quotas.reserve(tokens=2000, ttl=600)
    def chat():
        reservation = g.quotum_reservation
        def answer():
            yield from model()
            reservation.commit(tokens=...)
        return Response(answer())

What is not committed is given back when the response has been sent, could not be sent, or the client has gone away.

A denial is raised as quotum.DeniedError, and answered as quotum.http says, as is every other quotum.QuotumError; an
error handler of the app's own may answer otherwise. The RateLimit fields are on the response, whatever its status.

`flask quotum plans`, `flask quotum usage SUBJECT` and `flask quotum audit` show what the store knows.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

try:
    import click
    from flask import Blueprint, Flask, Response, current_app, g, request
    from flask.cli import AppGroup
except ImportError as error:
    raise ImportError("quotum.flask needs Flask: pip install flask") from error

from . import _gate
from ._errors import QuotumError
from ._gate import Address, waited
from ._native import AsyncReservation, Identity, Quota, Reservation
from ._rule import Rule, Verbs
from .http import Mapping, token_of

__all__ = ["Quotas", "Rule"]

View = TypeVar("View", bound=Callable[..., Any])


class Decorator(Protocol):
    """Put under the decorator of a route."""

    def __call__(self, view: View, /) -> View: ...


class Quotas(Verbs[Decorator, Decorator]):
    """The extension. Its decorators go under those of routes.

    `quota` is the engine; without it, each app opens its own by its configuration: QUOTUM_URL, QUOTUM_PLANS and
    QUOTUM_OPTIONS, the other keywords of Quota.open. Who asks is whomever the token of `Authorization: Bearer` or of
    `X-API-Key` speaks for; or give a function as `subject`, which returns the id of a subject, or None for nobody who
    is known. `default` is asked of every endpoint that is not exempt, besides what its decorators ask.
    QUOTUM_TRUSTED_HOPS is how many proxies of one's own stand before this server.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        quota: Quota | None = None,
        subject: Callable[[], str | None] | None = None,
        mapping: Mapping | None = None,
        default: Rule | None = None,
    ) -> None:
        self._quota = quota
        self._subject = subject
        self._mapping = mapping or Mapping()
        self._default = default
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Give an app its engine, error handler, hooks and commands."""
        app.config.setdefault("QUOTUM_TRUSTED_HOPS", 0)
        app.extensions["quotum"] = self._quota or _opened(app)
        app.before_request(self._ask_default)
        app.after_request(_finish)
        app.teardown_request(_abandon)
        app.register_error_handler(QuotumError, self._refused)
        app.cli.add_command(_commands())

    @property
    def quota(self) -> Quota:
        """The engine of the current app."""
        return _engine()

    def address(self) -> Address:
        """The client's address, as the key of a rate."""
        hops: int = current_app.config["QUOTUM_TRUSTED_HOPS"]
        return _gate.address(hops, request.remote_addr, _values("X-Forwarded-For"))

    def identity(self) -> Identity:
        """Who asks. Raises DeniedError, which is answered 401, for nobody who is known."""
        return waited(_gate.identify(self.quota, *self._caller()))

    def exempt(self, view: View) -> View:
        """Ask nothing by default of this endpoint."""
        # Decorators that are put around it take what its __dict__ has.
        view.__dict__["quotum_is_exempt"] = True
        return view

    def blueprint(self, name: str = "quotum", **options: Any) -> Blueprint:
        """A blueprint for `/plans`, `/me` and `/usage`, with the options of a Blueprint."""
        blueprint = Blueprint(name, __name__, **options)

        @blueprint.get("/plans")
        @self.exempt
        def plans() -> dict[str, Any]:
            return waited(_gate.price_list(self.quota))

        @blueprint.get("/me")
        @self.exempt
        def me() -> dict[str, Any]:
            return self.quota.usage(self.identity().subject).to_dict()

        @blueprint.get("/usage")
        @self.exempt
        def usage() -> dict[str, Any]:
            return {"quotas": [state.to_dict() for state in self.quota.usage(self.identity().subject).quotas]}

        return blueprint

    def _deciding(self, rule: Rule) -> Decorator:
        def decorate(view: View) -> View:
            @functools.wraps(view)
            def asking(*args: Any, **kwargs: Any) -> Any:
                self._ask(rule)
                return current_app.ensure_sync(view)(*args, **kwargs)

            return cast(View, asking)

        return decorate

    _reserving = _deciding

    def _ask_default(self) -> None:
        view = current_app.view_functions.get(request.endpoint or "")
        # A path that leads nowhere, and files.
        if self._default is None or view is None or request.endpoint == "static":
            return
        if not getattr(view, "quotum_is_exempt", False):
            self._ask(self._default)

    def _ask(self, rule: Rule) -> None:
        caller = (None, None) if rule.is_by_anyone else self._caller()
        admission = waited(_gate.admit(self.quota, rule.ask(*caller, lambda function: function())))
        exchange = _exchange()
        exchange.fields.extend(admission.fields(self._mapping, self.quota.now))
        g.quotum_decision, g.quotum_reservation = admission.decision, admission.reservation
        if admission.reservation is not None:
            exchange.reservations.append(admission.reservation)

    def _caller(self) -> tuple[str | None, str | None]:
        if self._subject is None:
            return None, token_of(_values("Authorization"), _values("X-API-Key")) or ""
        return _gate.named(self._subject())

    def _refused(self, error: QuotumError) -> Response:
        answer = _gate.refusal(error, self._mapping, self.quota.now)
        return Response(answer.body, answer.status, list(answer.fields), content_type=answer.content_type)


@dataclass
class _Exchange:
    """A request under way: which fields its response is to have, and what ends with it."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    reservations: list[Reservation | AsyncReservation] = field(default_factory=list)


def _exchange() -> _Exchange:
    if "_quotum_exchange" not in g:
        g._quotum_exchange = _Exchange()
    exchange: _Exchange = g._quotum_exchange
    return exchange


def _finish(response: Response) -> Response:
    """Tell the client of its limits. What is reserved for a response is so until its last part."""
    exchange: _Exchange = g.pop("_quotum_exchange", None) or _Exchange()
    for name, value in exchange.fields:
        if _gate.is_list(name):
            response.headers.add(name, value)
        else:
            response.headers.setdefault(name, value)
    for reservation in exchange.reservations:
        response.call_on_close(reservation.let_go)
    return response


def _abandon(_error: BaseException | None) -> None:
    """Give back what was reserved for a request that has no response."""
    exchange: _Exchange | None = g.pop("_quotum_exchange", None)
    for reservation in exchange.reservations if exchange else ():
        reservation.let_go()


def _values(header: str) -> list[bytes]:
    return [value.encode() for value in request.headers.getlist(header)]


def _opened(app: Flask) -> Quota:
    for name in ("QUOTUM_URL", "QUOTUM_PLANS"):
        if name not in app.config:
            raise RuntimeError(f"the app's configuration has no {name}: set it, or give Quotas an engine, quota=...")
    options = app.config.get("QUOTUM_OPTIONS", {})
    return Quota.open(app.config["QUOTUM_URL"], plans=app.config["QUOTUM_PLANS"], **options)


def _commands() -> AppGroup:
    group = AppGroup("quotum", help="Look at plans, at usage, and at who changed what.")

    @group.command("plans", help="List the plans, cheapest first.")
    def plans() -> None:
        for plan in _engine().plans():
            quotas = [f"{metric} {' and '.join(limits)}" for metric, limits in plan.quotas.items()]
            click.echo(f"{plan.id}: {', '.join(quotas) or 'no quotas'}")

    @group.command("usage", help="Show the plan and every quota of a subject.")
    @click.argument("subject")
    def usage(subject: str) -> None:
        found = _engine().usage(subject)
        click.echo(f"{subject} is on plan {found.plan}")
        for state in found.quotas:
            limit = "no limit" if state.limit is None else f"{state.limit} a {state.period}"
            click.echo(f"{state.metric}: {state.used} used, {state.held} held, {limit}")

    @group.command("audit", help="Show who changed what, the latest first.")
    @click.option("--subject", help="Of this subject only.")
    @click.option("--limit", default=20, show_default=True, help="How many changes.")
    def audit(subject: str | None, limit: int) -> None:
        for event in _engine().events(subject=subject, changes_only=True, newest_first=True, limit=limit):
            who = f" by {event.actor}" if event.actor else ""
            detail = "" if event.detail is None else f": {json.dumps(event.detail)}"
            click.echo(f"{event.at:%Y-%m-%dT%H:%M:%SZ} {event.name} {event.subject or ''}{who}{detail}")

    return group


def _engine() -> Quota:
    quota: Quota = current_app.extensions["quotum"]
    return quota
