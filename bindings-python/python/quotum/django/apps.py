"""The app, which is there for its system checks."""

from __future__ import annotations

from django.apps import AppConfig  # type: ignore[import-untyped, unused-ignore]
from django.core import checks  # type: ignore[import-untyped, unused-ignore]

from ._settings import problems


class QuotumConfig(AppConfig):  # type: ignore[misc, unused-ignore]
    """The app `quotum.django`."""

    name = "quotum.django"
    label = "quotum"
    verbose_name = "Quotum"

    def ready(self) -> None:
        """Have the settings checked by `manage.py check`, and before a server starts."""
        checks.register(check_settings, "quotum")


def check_settings(**_: object) -> list[checks.Error]:
    """An error for each setting that is wrong."""
    return [checks.Error(problem, id="quotum.E001") for problem in problems()]
