"""The learning rate over a run: a warm-up, then a cosine."""

from __future__ import annotations

import math


def rate_scale(step: int, steps: int, warmup: float, floor: float) -> float:
    """Share of the peak rate in a step.

    Args:
        step: 1 for the first.
        steps: of the whole run.
        warmup: share of the steps in which the rate grows.
        floor: what the cosine ends at.

    >>> [round(rate_scale(step, 10, warmup=0.2, floor=0.1), 2) for step in (1, 2, 6, 10)]
    [0.5, 1.0, 0.55, 0.1]
    """
    rising = round(warmup * steps)
    if step <= rising:
        return step / rising
    share = (step - rising) / max(steps - rising, 1)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))
