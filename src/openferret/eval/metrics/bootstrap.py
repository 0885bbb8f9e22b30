"""Values with 95 % intervals, by drawing pictures with replacement.

Questions about one picture are not independent, so pictures are drawn, never questions. Each picture is a row
of sums, and a metric is a function of the sum of the rows: one matrix product draws them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[FloatArray], FloatArray]

_CHUNK = 4_000_000  # weights held at once


@dataclass(frozen=True)
class Estimate:
    """A value, its 95 % interval, and how many questions it rests on; None where nothing was counted.

    `pictures` says how many were drawn from, and `drawn` holds the value of each draw: two estimates of the same
    pictures can be compared draw by draw.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    pictures: int = field(default=0, repr=False, compare=False)
    drawn: FloatArray | None = field(default=None, repr=False, compare=False)


def sum_by_picture(pictures: Sequence[str], rows: Sequence[Sequence[float]]) -> FloatArray:
    """Rows of counts `[questions, k]`, summed by picture -> `[pictures, k]` in order of first appearance.

    >>> sum_by_picture(["a", "b", "a"], [[1, 1], [0, 1], [0, 1]]).tolist()
    [[1.0, 2.0], [0.0, 1.0]]
    """
    order = {name: index for index, name in enumerate(dict.fromkeys(pictures))}
    values = np.asarray(rows, np.float64).reshape(len(pictures), len(rows[0]) if len(rows) else 0)
    sums = np.zeros((len(order), values.shape[1]))
    np.add.at(sums, [order[name] for name in pictures], values)
    return sums


def ratio(sums: FloatArray) -> FloatArray:
    """The statistic of an accuracy: the first column over the second, NaN where that is 0; `[..., 2]`.

    >>> ratio(np.array([[1.0, 2.0]])).tolist()
    [0.5]
    """
    return divide(sums[..., 0], sums[..., 1])


def divide(top: FloatArray, bottom: FloatArray) -> FloatArray:
    """`top / bottom` element by element, NaN where `bottom` is 0.

    >>> divide(np.array([1.0, 1.0]), np.array([2.0, 0.0])).tolist()
    [0.5, nan]
    """
    shape = np.broadcast_shapes(np.shape(top), np.shape(bottom))
    out: FloatArray = np.full(shape, np.nan)
    np.divide(top, bottom, out=out, where=np.asarray(bottom) != 0)
    return out


def estimate(
    by_picture: FloatArray, statistic: Statistic, n: int, *, draws: int = 1000, seed: int = 0
) -> Estimate:
    """A statistic of all pictures, and the middle 95 % of it over `draws` samples of as many pictures.

    Args:
        by_picture: `[pictures, k]` sums of one picture each.
        statistic: `[..., k]` sums -> `[...]` values; NaN where it is not defined.
        n: questions behind it, kept in the estimate.
        draws: samples.
        seed: of the drawing.

    >>> estimate(np.array([[1.0, 2.0]] * 3), ratio, n=6)
    Estimate(value=0.5, low=0.5, high=0.5, n=6)
    """
    pictures = len(by_picture)
    value = float(statistic(by_picture.sum(0))) if pictures else float("nan")
    if not np.isfinite(value):
        return Estimate(None, None, None, n)
    step = max(1, _CHUNK // pictures)
    drawn: list[FloatArray] = []
    for start in range(0, draws, step):
        weights = _draw(pictures, min(step, draws - start), seed, start)
        drawn.append(np.asarray(statistic(weights @ by_picture)))
    every = np.concatenate(drawn)
    low, high = np.nanpercentile(every, [2.5, 97.5])
    return Estimate(value, float(low), float(high), n, pictures, every)


@lru_cache(maxsize=2)
def _draw(pictures: int, count: int, seed: int, start: int) -> FloatArray:
    """How often each picture is drawn in each sample, `[count, pictures]`; most figures of a task share it."""
    generator = np.random.default_rng([seed, start] if start else seed)
    weights = generator.multinomial(pictures, np.full(pictures, 1 / pictures), size=count)
    return weights.astype(np.float64)


def accuracy(pictures: Sequence[str], right: Sequence[float]) -> Estimate:
    """The mean of `right` (0 or 1, or any score) over questions, with its interval by picture.

    >>> accuracy(["a", "b"], [1, 1]).value
    1.0
    """
    return estimate(sum_by_picture(pictures, [(one, 1) for one in right]), ratio, len(right))
