"""Two sets of replies to the same questions: what the second gains or loses, with a paired interval.

Both are scored over the same draws of pictures, so what they share (easy pictures, hard ones) cancels: the interval of
the difference is far narrower than the two intervals side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openferret.errors import InputError
from openferret.eval.metrics.bootstrap import Estimate
from openferret.eval.predictions import read_predictions
from openferret.eval.questions import Replies, Reply, questions_digest
from openferret.eval.results import FORMAT, write_json
from openferret.eval.runner import Plan
from openferret.eval.scores import Benchmark, Figure


@dataclass(frozen=True)
class Difference:
    """One figure of two runs.

    Args:
        name: of the figure.
        rule: that it was counted by.
        unit: `share` or `points`.
        first: its value in the first run.
        second: its value in the second.
        difference: second - first.
        low: the middle 95 % of it over draws of pictures, None where the runs do not rest on the same pictures.
        high: the same.
        n: questions behind it.
    """

    name: str
    rule: str
    unit: str
    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Comparison:
    """Two runs, the differences of their figures, and how many of their answers are the same word for word."""

    differences: tuple[Difference, ...]
    same_words: int
    questions: int


def compare_files(
    benchmark: Benchmark, planned: Plan, first: Path, second: Path, out: Path | None = None
) -> Comparison:
    """Compares two predictions files; with `out`, writes `comparison.json` there.

    Raises:
        InputError: a file cannot be used.
    """
    both = [read_predictions(file, planned.questions) for file in (first, second)]
    for file, replies in zip((first, second), both, strict=True):
        if not replies:
            raise InputError(f"{file} answers none of these questions")
    comparison = compare(benchmark, planned, *both)
    if out is not None:
        content: dict[str, Any] = {
            "format": FORMAT,
            "task": benchmark.task,
            "scorer_version": benchmark.version,
            "questions": questions_digest(planned.questions),
        }
        write_json(out / "comparison.json", content | asdict(comparison))
    return comparison


def compare(
    benchmark: Benchmark, planned: Plan, first: Mapping[str, Reply], second: Mapping[str, Reply]
) -> Comparison:
    """What the second replies gain over the first.

    Args:
        benchmark: with its data read.
        planned: the questions that both were asked.
        first: replies by question.
        second: replies by question.
    """
    asked = planned.questions
    scores = [benchmark.score(asked, replies).figures for replies in (first, second)]
    others = {(one.name, one.rule): one for one in scores[1]}
    pairs = [(one, others[one.name, one.rule]) for one in scores[0] if (one.name, one.rule) in others]
    same = sum(_words(first, one.id) == _words(second, one.id) for one in asked)
    return Comparison(
        tuple(_difference(*pair) for pair in pairs if pair[0].rule != "baseline"), same, len(asked)
    )


def _words(replies: Replies, question: str) -> str | None:
    reply = replies.get(question)
    return None if reply is None else reply.text


def _difference(first: Figure, second: Figure) -> Difference:
    a, b = first.estimate, second.estimate
    whole = None if a.value is None or b.value is None else b.value - a.value
    low, high = _interval(a, b)
    return Difference(first.name, first.rule, first.unit, a.value, b.value, whole, low, high, a.n)


def _interval(first: Estimate, second: Estimate) -> Sequence[float | None]:
    a, b = first.drawn, second.drawn
    # Estimates of as many pictures are drawn alike: draw by draw the same pictures.
    if a is None or b is None or (first.n, first.pictures) != (second.n, second.pictures):
        return None, None
    low, high = np.nanpercentile(b - a, [2.5, 97.5])
    return float(low), float(high)
