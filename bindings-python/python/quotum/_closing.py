"""Engines that are still open when the interpreter ends: they are closed before it does.

What an engine has leased is returned, what it owes is charged, and listeners hear the last events, while Python can
still run them.
"""

from __future__ import annotations

import atexit
import weakref
from typing import TYPE_CHECKING

from ._native import end_calls

if TYPE_CHECKING:
    from ._native import AsyncQuota, Quota

_open: weakref.WeakSet[Quota | AsyncQuota] = weakref.WeakSet()


def watch(engine: Quota | AsyncQuota) -> None:
    """Close an engine at the end, if nobody else has."""
    _open.add(engine)


@atexit.register
def _close_all() -> None:
    for engine in list(_open):
        engine._end()
    end_calls()
