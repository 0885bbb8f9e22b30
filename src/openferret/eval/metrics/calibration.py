"""Whether scores mean what they say: a box of score 0.8 should be right in 8 of 10 cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openferret.eval.metrics.bootstrap import FloatArray, divide

BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """Boxes whose score lies in `low..high`: how many, their mean score, the share that is right."""

    low: float
    high: float
    n: int
    score: float | None
    right: float | None


def bin_counts(score: float, right: bool, bins: int = BINS) -> list[float]:
    """What one box adds: per bin of equal width its score, whether it is right, and 1; `[3 * bins]`.

    >>> bin_counts(0.75, True, bins=2)
    [0.0, 0.75, 0.0, 1.0, 0.0, 1.0]
    """
    counts = np.zeros((3, bins))
    counts[:, min(int(score * bins), bins - 1)] = score, float(right), 1.0
    return counts.ravel().tolist()


def expected_calibration_error(sums: FloatArray) -> FloatArray:
    """ECE: mean |score - right| over the bins, by their share; summed `bin_counts` `[..., 3 * bins]`.

    >>> float(expected_calibration_error(np.array(bin_counts(0.75, True))))
    0.25
    """
    scores, right, n = np.split(sums, 3, axis=-1)
    return divide(np.abs(scores - right).sum(-1), n.sum(-1))


def reliability(scores: Sequence[float], right: Sequence[bool], bins: int = BINS) -> list[ReliabilityBin]:
    """The bins of a reliability plot.

    >>> reliability([0.75], [True], bins=2)[1]
    ReliabilityBin(low=0.5, high=1.0, n=1, score=0.75, right=1.0)
    """
    found = []
    places = [min(int(score * bins), bins - 1) for score in scores]
    for index in range(bins):
        chosen = [(s, r) for s, r, place in zip(scores, right, places, strict=True) if place == index]
        n = len(chosen)
        score = sum(s for s, _ in chosen) / n if n else None
        share = sum(bool(r) for _, r in chosen) / n if n else None
        found.append(ReliabilityBin(index / bins, (index + 1) / bins, n, score, share))
    return found
