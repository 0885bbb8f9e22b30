"""A mask as the few numbers where it begins and ends: its bounds and a coarse copy cost nothing of its size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Runs:
    """What is inside a mask, as runs down its columns.

    Attributes:
        width: in pixels.
        height: in pixels.
        starts: int64 [N], the first pixel of each run, counted down the columns; ascending.
        ends: int64 [N], the pixel after its last; no run is empty.

    >>> Runs.alternating(2, 2, np.array([1, 2, 1])).mask().astype(int).tolist()
    [[0, 1], [1, 0]]
    """

    width: int
    height: int
    starts: IntArray
    ends: IntArray

    @classmethod
    def alternating(cls, width: int, height: int, counts: IntArray) -> Runs:
        """Of lengths that fill the size, the first of them outside, the next inside, and so on."""
        edges = np.cumsum(counts)
        ends = edges[1::2]
        starts = edges[0::2][: len(ends)]
        some = ends > starts
        return cls(width, height, starts[some], ends[some])

    @classmethod
    def of(cls, mask: BoolArray) -> Runs:
        """Of pixels; bool [height, width].

        >>> Runs.of(np.eye(2, dtype=bool)).starts.tolist()
        [0, 3]
        """
        height, width = mask.shape
        flat = mask.T.ravel()
        edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        if flat[0]:
            edges = np.insert(edges, 0, 0)
        if flat[-1]:
            edges = np.append(edges, flat.size)
        return cls(width, height, edges[0::2], edges[1::2])

    def __len__(self) -> int:
        return len(self.starts)

    def mask(self) -> BoolArray:
        """All pixels; bool [height, width]."""
        lengths = np.empty(2 * len(self.starts) + 1, dtype=np.int64)
        lengths[1::2] = self.ends - self.starts
        lengths[0:-1:2] = np.diff(self.ends, prepend=0)[: len(self.starts)] - lengths[1::2]
        lengths[-1] = self.width * self.height - (self.ends[-1] if len(self.ends) else 0)
        flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
        return flat.reshape(self.width, self.height).T

    def bounds(self) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 of the smallest box round what is inside; some pixel must be.

        >>> Runs.alternating(4, 5, np.array([6, 3, 11])).bounds()
        (1, 1, 2, 4)
        """
        first, last = self.starts // self.height, (self.ends - 1) // self.height
        left, right = int(first[0]), int(last[-1]) + 1
        if (first != last).any():  # from one column into the next: through the lowest row and the highest
            return left, 0, right, self.height
        top, bottom = self.starts - first * self.height, self.ends - last * self.height
        return left, int(top.min()), right, int(bottom.max())

    def coverage(self, columns: int, rows: int) -> IntArray:
        """How many pixels are inside each cell of a coarser grid; int64 [rows, columns].

        Cell `i` of `columns` begins at pixel `i * width // columns`.

        >>> Runs.alternating(4, 4, np.array([0, 6, 10])).coverage(2, 2).tolist()
        [[4, 0], [2, 0]]
        """
        counted = _Counted(self.width, self.height, columns, rows)
        counted.add(self.ends, np.ones(len(self.ends)))
        counted.add(self.starts, -np.ones(len(self.starts)))
        return counted.cells()


class _Counted:
    """Sums of "all pixels before this one", with signs: those before a run's end less those before its start.

    The pixels before a place are whole columns and the upper part of one; both are kept as a count and what
    is left over in the cell of the grid where they end, so that a place costs the same wherever it is.
    """

    def __init__(self, width: int, height: int, columns: int, rows: int) -> None:
        self._size = width, height
        self._lefts = np.arange(columns + 1) * width // columns
        self._tops = np.arange(rows + 1) * height // rows
        self._whole = np.zeros((2, columns + 1))
        self._part = np.zeros((2, (columns + 1) * rows))

    def add(self, places: IntArray, signs: NDArray[np.float64]) -> None:
        """Counts the pixels before each place, down the columns, with its sign."""
        (width, height), columns, rows = self._size, len(self._lefts) - 1, len(self._tops) - 1
        x, y = places // height, places % height
        column, row = ((x + 1) * columns - 1) // width, ((y + 1) * rows - 1) // height
        cell = column * rows + row
        for sums, index, rest in (
            (self._whole, column, x - self._lefts[column]),
            (self._part, cell, y - self._tops[row]),
        ):
            sums[0] += np.bincount(index, signs, sums.shape[1])
            sums[1] += np.bincount(index, signs * rest, sums.shape[1])

    def cells(self) -> IntArray:
        """What was counted; int64 [rows, columns]."""
        wide, high = np.diff(self._lefts), np.diff(self._tops)
        count, rest = self._whole
        across = rest[:-1] + wide * _after(count)[:-1]
        count, rest = self._part.reshape(2, len(self._lefts), len(self._tops) - 1)
        down = rest[:-1] + high * _after(count)[:-1]
        return np.rint(across[:, None] * high + down).astype(np.int64).T


def _after(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of all that follow each along the last axis."""
    return np.cumsum(counts[..., ::-1], axis=-1)[..., ::-1] - counts
