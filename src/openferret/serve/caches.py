"""A cache bounded by bytes: what was used longest ago goes first."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

V = TypeVar("V")


class ByteCache(Generic[V]):
    """Values by name, in as many bytes as allowed; safe between threads.

    Args:
        size: the most, in bytes. A value larger than that is not kept.

    Example:
        >>> cache = ByteCache(10)
        >>> cache.put("a", "first", 6)
        >>> cache.put("b", "second", 6)
        >>> cache.get("a") is None
        True
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.held = 0
        self._values: OrderedDict[str, tuple[V, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, name: str) -> V | None:
        """The value, which is now the one used last; None if it is not there."""
        with self._lock:
            found = self._values.get(name)
            if found is None:
                return None
            self._values.move_to_end(name)
            return found[0]

    def put(self, name: str, value: V, count: int) -> None:
        """Keeps a value of so many bytes."""
        with self._lock:
            self._drop(name)
            if count > self.size:
                return
            self._values[name] = (value, count)
            self.held += count
            while self.held > self.size:
                self._drop(next(iter(self._values)))

    def drop(self, name: str) -> None:
        """Forgets a value, if it is there."""
        with self._lock:
            self._drop(name)

    def __len__(self) -> int:
        return len(self._values)

    def _drop(self, name: str) -> None:
        gone = self._values.pop(name, None)
        if gone is not None:
            self.held -= gone[1]
