"""The held-out part, asked before and after: what rose, and by how much, picture by picture."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openferret.eval import runner
from openferret.eval.metrics.bootstrap import Estimate, estimate, ratio, sum_by_picture
from openferret.eval.models import FerretModel
from openferret.eval.pointing import seed_of
from openferret.eval.predictions import read_predictions
from openferret.eval.questions import Question
from openferret.eval.scores import Benchmark
from openferret.eval.tasks.ground_classes import Wanted, grounding_benchmark
from openferret.eval.tasks.name_classes import naming_benchmark
from openferret.loading import LoadedModel
from openferret.predictor import Ferret
from openferret.train.finetune.own_data import OwnPicture

_ABSENT = 2  # classes asked of a picture that does not have them


@dataclass(frozen=True)
class Change:
    """A figure before and after, and the paired difference with its 95 % interval, by picture."""

    name: str
    before: float
    after: float
    difference: Estimate

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        one = self.difference
        return {
            "name": self.name,
            "before": self.before,
            "after": self.after,
            "difference": one.value,
            "low": one.low,
            "high": one.high,
            "n": one.n,
        }


def wanted_of(pictures: Sequence[OwnPicture], classes: Sequence[str], seed: int = 0) -> Iterator[Wanted]:
    """What held-out pictures are asked for: each class on them, and a few that are not."""
    for one in pictures:
        yield from (Wanted(one.file, name, boxes) for name, boxes in one.boxes.items())
        absent = [name for name in classes if name not in one.boxes and name not in one.unsure]
        for name in random.Random(seed_of(seed, one.file)).sample(absent, min(_ABSENT, len(absent))):
            yield Wanted(one.file, name, ())


def benchmarks_of(pictures: Sequence[OwnPicture], classes: Sequence[str]) -> tuple[Benchmark, ...]:
    """Where is each class, and what is in each box."""
    wanted = list(wanted_of(pictures, classes))
    files = {one.file: one.path for one in pictures}
    named = [one for one in wanted if one.boxes]
    return grounding_benchmark(wanted, files), naming_benchmark(named, files)


def measure(loaded: LoadedModel, folder: Path, benchmarks: Sequence[Benchmark], out: Path) -> None:
    """Asks a model everything; what was answered before a kill is not asked again.

    Args:
        loaded: the model.
        folder: of its weights.
        benchmarks: to ask.
        out: for predictions and results, a folder for each task.

    Raises:
        InputError: the folder holds something else.
    """
    for benchmark in benchmarks:
        planned = runner.plan(benchmark)
        place = out / benchmark.task
        runner.run(benchmark, planned, lambda: FerretModel(Ferret(loaded), folder), place, resume=True)


def compare(benchmarks: Sequence[Benchmark], before: Path, after: Path) -> list[Change]:
    """Figures of two measurements of the same questions, side by side."""
    changes = []
    for benchmark in benchmarks:
        values = [
            _values(benchmark, place / benchmark.task / "predictions.jsonl") for place in (before, after)
        ]
        for name, ids in _groups(benchmark).items():
            pairs = [(values[0][one][1], values[1][one][1], values[0][one][0]) for one in ids]
            first = sum(then for then, _, _ in pairs) / len(pairs)
            last = sum(now for _, now, _ in pairs) / len(pairs)
            pictures = [picture for _, _, picture in pairs]
            rows = [(now - then, 1.0) for then, now, _ in pairs]
            difference = estimate(sum_by_picture(pictures, rows), ratio, len(rows))
            changes.append(Change(name, first, last, difference))
    return changes


def _groups(benchmark: Benchmark) -> Mapping[str, list[str]]:
    """Questions by the figure that they count for."""
    names = {"merged": "R@1", "each": "every box right, or said to be absent"}
    groups: dict[str, list[str]] = {}
    for question in benchmark.questions:
        last = question.id.rpartition(" ")[2]
        kind = names.get(last, benchmark.task) if question.verb == "ground" else _pointing(question)
        groups.setdefault(kind, []).append(question.id)
    return groups


def _pointing(question: Question) -> str:
    return f"right, by {question.spots[0].kind}" if question.spots else "right"


def _values(benchmark: Benchmark, predictions: Path) -> dict[str, tuple[str, float]]:
    """Picture and value of each question."""
    score = benchmark.score(benchmark.questions, read_predictions(predictions, benchmark.questions))
    return {one.question: (one.picture, float(one.value)) for one in score.cases}
