"""Items put away by key and taken out again in another order, in a temporary file rather than in memory.

Annotation files list pictures and annotations apart, or in another order than each other. SQLite keeps what does
not fit its cache in a file of the temporary folder that has no name, and is gone with the process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from types import TracebackType
from typing import Any

from openferret.errors import InputError

_CACHE = 64 * 1024  # KiB of pages in memory
_BATCH = 2000


class Shelf:
    """JSON values by key, each key as often as one likes; close it, or use it in a `with`.

    Raises:
        InputError: the temporary folder is full.

    >>> with Shelf() as shelf:
    ...     shelf.put("a", "[1]")
    ...     shelf.put("a", "[2]")
    ...     shelf.take("a"), shelf.take("b")
    (['[1]', '[2]'], [])
    """

    def __init__(self) -> None:
        with _room(), ExitStack() as stack:
            self._store = stack.enter_context(closing(sqlite3.connect("", isolation_level=None)))
            for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE}"):
                self._store.execute(f"PRAGMA {pragma}").fetchall()
            self._store.execute("CREATE TABLE items (key TEXT, value TEXT)")
            self._store.execute("BEGIN")
            stack.pop_all()
        self._waiting: list[tuple[str, str]] = []
        self._indexed = False
        self._empty = True

    def put(self, key: str, value: str) -> None:
        """Puts text away."""
        self._waiting.append((key, value))
        self._empty = False
        if len(self._waiting) >= _BATCH:
            self._write()

    def take(self, key: str) -> list[str]:
        """All that was put away under a key, in that order; it stays."""
        if self._empty:
            return []
        if self._waiting:
            self._write()
        with _room():
            if not self._indexed:
                self._store.execute("CREATE INDEX by_key ON items (key)")
                self._indexed = True
            found = self._store.execute("SELECT value FROM items WHERE key = ? ORDER BY rowid", (key,))
            return [value for (value,) in found]

    def __iter__(self) -> Iterator[str]:
        """Every key that something was put away under, once."""
        if self._waiting:
            self._write()
        with _room():
            for (key,) in self._store.execute("SELECT DISTINCT key FROM items"):
                yield key

    def _write(self) -> None:
        with _room():
            self._store.executemany("INSERT INTO items VALUES (?, ?)", self._waiting)
        self._waiting.clear()

    def close(self) -> None:
        """Gives the temporary file back."""
        self._store.close()

    def __enter__(self) -> Shelf:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        self.close()


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
        raise InputError(
            f"the temporary folder cannot hold the annotations ({error}): make room there, or name another "
            "folder in the environment variable SQLITE_TMPDIR"
        ) from None
