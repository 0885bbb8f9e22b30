"""Hashes that differ in a few bits, found without comparing with all of them."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_BITS = 64
_WIDEST = 16  # bits of a part: tables of offsets stay below 64 Ki entries
_MOST_PARTS = 16


class NearHashes:
    """64-bit hashes to be searched many times.

    If two hashes differ in at most `near` bits and are cut into `near + 1` parts, one part of both is the same. So
    only hashes that share a part are compared. Where parts would be too short to tell hashes apart, all are.

    Args:
        hashes: uint64 [n].
        near: bits by which a found hash may differ, 0..64.

    Example:
        >>> NearHashes(np.array([0b1111, 0b0000], np.uint64), near=1).nearest(0b0111)
        0
    """

    def __init__(self, hashes: NDArray[np.uint64], near: int) -> None:
        self._hashes, self._near = hashes, near

    def nearest(self, wanted: int) -> int | None:
        """The place of the hash that differs least, the first of several; None if none is near."""
        if self._near >= _MOST_PARTS:
            return self._best(wanted, None)
        places = np.concatenate([part.places(wanted) for part in self._parts])
        return self._best(wanted, places) if len(places) else None

    def _best(self, wanted: int, places: NDArray[np.int64] | None) -> int | None:
        hashes = self._hashes if places is None else self._hashes[places]
        if not len(hashes):
            return None
        distances = np.bitwise_count(hashes ^ np.uint64(wanted))
        least = int(distances.min())
        if least > self._near:
            return None
        found = np.flatnonzero(distances == least)
        return int(found[0] if places is None else places[found].min())

    @cached_property
    def _parts(self) -> list[_Part]:
        edges = np.linspace(0, _BITS, self._near + 2).astype(int).tolist()
        return [_Part(self._hashes, low, high) for low, high in pairwise(edges)]


class _Part:
    """Places of hashes by the value of bits `low`..`high`; of a long part its first bits are enough."""

    def __init__(self, hashes: NDArray[np.uint64], low: int, high: int) -> None:
        self._low, self._mask = low, (1 << min(high - low, _WIDEST)) - 1
        values = (hashes >> np.uint64(low)) & np.uint64(self._mask)
        self._order = np.argsort(values, kind="stable")
        self._starts = np.searchsorted(values[self._order], np.arange(self._mask + 2, dtype=np.uint64))

    def places(self, wanted: int) -> NDArray[np.int64]:
        value = (wanted >> self._low) & self._mask
        return self._order[self._starts[value] : self._starts[value + 1]]
