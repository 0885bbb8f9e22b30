"""How long a fine-tuning will take: a few steps of each run on a few pictures, measured."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from openferret.errors import InputError
from openferret.eval.scores import Benchmark
from openferret.images import load_image
from openferret.loading import LoadedModel, load_model
from openferret.train.batches.features import tower_maps
from openferret.train.monitoring.asking import ask_files
from openferret.train.objectives.objective import Objective
from openferret.train.recipes.recipe import Every, MonitorRecipe, TrainingRecipe
from openferret.train.running.callbacks import Callback, StepReport
from openferret.train.running.loop import run_training

_STEPS = 3
_PICTURES = 4


@dataclass(frozen=True)
class Pace:
    """Seconds, measured.

    Attributes:
        picture: of the vision tower, for one picture.
        steps: of a step of each run, by the run's name.
        asked: of one held-out picture with its questions.
    """

    picture: float
    steps: dict[str, float]
    asked: float

    def seconds(self, views: int, steps: dict[str, int], held_out: int) -> float:
        """Of everything: features, both runs, and the questions before and after."""
        training = sum(self.steps[name] * count for name, count in steps.items())
        return self.picture * views + training + 2 * self.asked * held_out


def measure_pace(
    model: Path,
    runs: Sequence[tuple[TrainingRecipe, Sequence[Objective]]],
    pictures: Sequence[Path],
    benchmarks: Sequence[Benchmark],
    place: Path,
) -> Pace:
    """Tries everything on little.

    Args:
        model: folder of the model to begin with.
        runs: recipes, on a small data set, and their objectives.
        pictures: some files.
        benchmarks: of held-out pictures.
        place: folder for the trials; removed at the end.

    Raises:
        InputError: something cannot be used, before any work was done.
    """
    picture = _seconds_to_see(load_model(model, engine="reference"), pictures[:_PICTURES])
    asked = _seconds_to_ask(load_model(model), benchmarks)
    steps = {recipe.name: _try(recipe, objectives, place) for recipe, objectives in runs}
    shutil.rmtree(place, ignore_errors=True)
    return Pace(picture, steps, asked)


def _seconds_to_see(loaded: LoadedModel, pictures: Sequence[Path]) -> float:
    """Of one picture: opened and looked at, as it is before the first step."""
    tower_maps(loaded.model, loaded.processor.pixel_values([load_image(pictures[0])]))  # warms up
    started = time.perf_counter()
    tower_maps(loaded.model, loaded.processor.pixel_values([load_image(path) for path in pictures]))
    return (time.perf_counter() - started) / len(pictures)


def _seconds_to_ask(loaded: LoadedModel, benchmarks: Sequence[Benchmark]) -> float:
    """Of one picture, the second that is asked: the first warms up."""
    total = 0.0
    for benchmark in benchmarks:
        seconds = []
        for key in list(dict.fromkeys(one.picture for one in benchmark.questions))[:2]:
            questions = [one for one in benchmark.questions if one.picture == key]
            started = time.perf_counter()
            ask_files(loaded, questions, benchmark.pictures)
            seconds.append(time.perf_counter() - started)
        total += seconds[-1] if seconds else 0.0
    return total


def _try(recipe: TrainingRecipe, objectives: Sequence[Objective], place: Path) -> float:
    watch = _Watch()
    trial = replace(
        recipe,
        out=place / recipe.name,
        steps=_STEPS + 1,
        every=Every(checkpoint=0, evaluate=0),
        monitor=MonitorRecipe((), 0),
    )
    shutil.rmtree(trial.out, ignore_errors=True)  # of a trial that somebody stopped
    with suppress(_EnoughError):
        run_training(trial, (watch,), objectives)
    return watch.seconds


class _EnoughError(InputError):
    """Ends a trial: nothing of it is kept."""


class _Watch(Callback):
    def __init__(self) -> None:
        self.seconds = 0.0

    def on_step(self, report: StepReport) -> None:
        if report.step > 1:  # the first one warms up
            self.seconds += report.seconds / (_STEPS - 1)
        if report.step == _STEPS:
            raise _EnoughError("measured")
