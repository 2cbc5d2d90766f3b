"""Rules: what every request to an endpoint asks for, and the words in which a backend says it.

A part of a rule is a value, or a function that finds it for each request. What such a function is given, each framework
says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar, cast

from ._gate import Address, Ask, Feature, Span

T = TypeVar("T")
Decided = TypeVar("Decided")
Reserved = TypeVar("Reserved")

Part: TypeAlias = T | Callable[..., Any]
"""A value, or a function that finds it for each request."""
Costs: TypeAlias = Mapping[str, Part[int]]
Features: TypeAlias = Mapping[str, Part[Feature] | None] | Iterable[str | tuple[str, Part[Feature] | None]]
Find: TypeAlias = Callable[[Callable[..., Any]], Any]
"""Calls a function of a rule's for a request."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What every request to an endpoint asks for."""

    costs: Mapping[str, Part[int]] = field(default_factory=dict)
    rate: str | None = None
    rate_key: Part[str | Address] | None = None
    rate_cost: Part[int] = 1
    features: Mapping[str, Part[Feature] | None] = field(default_factory=dict)
    idempotency_key: Part[str] | None = None
    reserve: Span | None = None

    @property
    def is_by_anyone(self) -> bool:
        """Whether it does not matter who asks: it is about a rate alone, and for another key."""
        return self.rate_key is not None and not self.costs and not self.features

    @property
    def functions(self) -> list[Callable[..., Any]]:
        """Every function that finds a part of it."""
        parts = [*self.costs.values(), *self.features.values(), self.rate_key, self.rate_cost, self.idempotency_key]
        return [part for part in parts if callable(part)]

    def ask(self, subject: str | None, token: str | None, find: Find) -> Ask:
        """What one request asks for, by one of the two."""

        def found(part: Any) -> Any:
            return find(part) if callable(part) else part

        return Ask(
            None if self.is_by_anyone else subject,
            {metric: found(units) for metric, units in self.costs.items()},
            token=None if self.is_by_anyone else token,
            rate=self.rate,
            rate_key=found(self.rate_key),
            rate_cost=found(self.rate_cost),
            features={name: found(value) for name, value in self.features.items()},
            idempotency_key=found(self.idempotency_key),
            reserve=self.reserve,
        )


def _named(features: Features) -> dict[str, Part[Feature] | None]:
    if isinstance(features, str):
        raise TypeError(f"features are a list of names: [{features!r}]")
    if isinstance(features, Mapping):
        return dict(cast("Mapping[str, Part[Feature] | None]", features))
    return dict((feature, None) if isinstance(feature, str) else feature for feature in features)


def _all(costs: Costs | None, units: Costs) -> Costs:
    """Costs of a mapping and of keywords, which must not name the same metric."""
    costs = costs or {}
    for metric in costs.keys() & units.keys():
        raise TypeError(f"the costs have {metric!r} twice: in the mapping and as a keyword")
    return {**costs, **units}


class Verbs(Generic[Decided, Reserved]):
    """The verbs by which a backend says what an endpoint asks for.

    What each returns is put before the endpoint: a dependency or a decorator, as the framework has it.
    """

    def _deciding(self, rule: Rule) -> Decided:
        raise NotImplementedError

    def _reserving(self, rule: Rule) -> Reserved:
        raise NotImplementedError

    def admit(
        self,
        costs: Costs | None = None,
        /,
        *,
        rate: str | None = None,
        rate_key: Part[str | Address] | None = None,
        rate_cost: Part[int] = 1,
        features: Features | None = None,
        idempotency_key: Part[str] | None = None,
        **units: Part[int],
    ) -> Decided:
        """Ask for everything at once: a rate, features and costs, of which all are granted or nothing is charged."""
        return self._deciding(
            Rule(
                costs=_all(costs, units),
                rate=rate,
                rate_key=rate_key,
                rate_cost=rate_cost,
                features=_named(features or ()),
                idempotency_key=idempotency_key,
            )
        )

    def consume(
        self, costs: Costs | None = None, /, *, idempotency_key: Part[str] | None = None, **units: Part[int]
    ) -> Decided:
        """Charge every cost, or none. It stays charged, whatever then becomes of the request."""
        return self._deciding(Rule(costs=_all(costs, units), idempotency_key=idempotency_key))

    def require(self, name: str, value: Part[Feature] | None = None, /) -> Decided:
        """Require a feature of the caller's plan, or as much of it as value."""
        return self._deciding(Rule(features={name: value}))

    def rate(self, scope: str, key: Part[str | Address] | None = None, cost: Part[int] = 1, /) -> Decided:
        """Count on a scope's rate: for the caller, or for a key, such as the address that a login comes from."""
        return self._deciding(Rule(rate=scope, rate_key=key, rate_cost=cost))

    def reserve(
        self,
        costs: Costs | None = None,
        /,
        *,
        ttl: Span,
        rate: str | None = None,
        rate_key: Part[str | Address] | None = None,
        rate_cost: Part[int] = 1,
        features: Features | None = None,
        idempotency_key: Part[str] | None = None,
        **units: Part[int],
    ) -> Reserved:
        """Set costs aside, for ttl at the most, for an endpoint that commits what was really used.

        What is not committed is given back when the response has been sent, could not be sent, or when the client went
        away. ttl, a timedelta or seconds, is longer than the longest response takes.
        """
        return self._reserving(
            Rule(
                costs=_all(costs, units),
                rate=rate,
                rate_key=rate_key,
                rate_cost=rate_cost,
                features=_named(features or ()),
                idempotency_key=idempotency_key,
                reserve=ttl,
            )
        )
