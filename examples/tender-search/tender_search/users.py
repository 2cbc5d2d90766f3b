"""Users and their keys: the backend's own table, which Quotum asks about keys that it does not know yet.

Quotum asks once for a key, and keeps the answer in a bounded cache by a digest of the whole key. Everybody's key begins
alike, as a JSON Web Token does: a cache that looks at the first characters would take one user for another.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

HEAD = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()
TABLE = "CREATE TABLE IF NOT EXISTS keys (digest BLOB PRIMARY KEY, user TEXT NOT NULL UNIQUE)"


class Users:
    """All of it blocks: it is called in threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._database() as database:
            database.execute(TABLE)

    def register(self, user: str) -> str | None:
        """A new user's key, which is not kept; None where the user is known already."""
        key = f"{HEAD}.{secrets.token_urlsafe(32)}"
        with self._database() as database:
            put = database.execute("INSERT OR IGNORE INTO keys VALUES (?, ?)", (_digest(key), user))
            return key if put.rowcount else None

    def user_of(self, key: str) -> str | None:
        """Whose key it is: the verifier of Quotum's token cache."""
        with self._database() as database:
            found = database.execute("SELECT user FROM keys WHERE digest = ?", (_digest(key),)).fetchone()
            return found and str(found[0])

    def revoke(self, user: str) -> None:
        """End a user's key."""
        with self._database() as database:
            database.execute("DELETE FROM keys WHERE user = ?", (user,))

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=5)) as database, database:
            yield database


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
