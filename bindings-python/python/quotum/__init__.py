"""Embedded quota enforcement: may this caller do this now, and what is left?"""

from ._native import Decision, Quota, QuotumError, __version__

__all__ = ["Decision", "Quota", "QuotumError", "__version__"]
