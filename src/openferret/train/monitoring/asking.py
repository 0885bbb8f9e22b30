"""Questions of the evaluation tasks, put to a model while it is being trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import nn

from openferret.errors import InputError
from openferret.eval import runner
from openferret.eval.models import FerretModel
from openferret.eval.questions import Question, Reply
from openferret.eval.scores import Benchmark
from openferret.eval.tasks import load
from openferret.loading import LoadedModel
from openferret.predictor import Ferret, Scene
from openferret.train.running.callbacks import Callback, RunStart

_AT_ONCE = 16
_NUMBERS = ("pictures", "objects", "seed", "each", "absent")
_PATHS = ("images", "annotations", "only", "root", "split_file", "instances", "refs", "captions")


class TaskMetrics(Callback):
    """Asks benchmarks at every evaluation.

    Args:
        tasks: name -> options, as `openferret eval run TASK` has them (`split_file` for `--split-file`), and
            `pictures`: only the first so many are asked about.
    """

    def __init__(self, tasks: Mapping[str, Mapping[str, Any]]) -> None:
        self._tasks = tasks
        self._planned: list[tuple[Benchmark, Sequence[Question]]] = []
        self._main = False

    def on_start(self, run: RunStart) -> None:
        """Reads the data, before anything is trained.

        Raises:
            InputError: no such task, an option that it does not have, or files that cannot be used.
        """
        self._main = run.main
        for name, given in self._tasks.items() if run.main else ():
            options = {key: _typed(name, key, value) for key, value in given.items()}
            limit = options.pop("pictures", None)
            try:
                benchmark = load(name, options)
            except TypeError as error:  # an option too many, or one too few
                raise InputError(f"monitor.tasks.{name}: {error}") from None
            planned = runner.plan(benchmark, limit)
            if not planned.questions:
                raise InputError(
                    f"monitor.tasks.{name}: none of its pictures is there, as {planned.missing[0]}"
                )
            self._planned.append((benchmark, planned.questions))

    def on_evaluate(self, step: int, loaded: LoadedModel, losses: Mapping[str, float]) -> dict[str, float]:
        """Asks, and gives the strict figures as `TASK/FIGURE`."""
        metrics: dict[str, float] = {}
        for benchmark, questions in self._planned if self._main else ():
            replies = ask_files(loaded, questions, benchmark.pictures)
            for figure in benchmark.score(questions, replies).figures:
                if figure.rule == "strict" and figure.estimate.value is not None:
                    metrics[f"{benchmark.task}/{figure.name}"] = figure.estimate.value
        return metrics


def ask(
    loaded: LoadedModel,
    questions: Sequence[Question],
    look: Callable[[Callable[[Any], Scene], str], Scene],
) -> dict[str, Reply]:
    """Puts questions to a model, picture by picture; a picture that cannot be read gives failures.

    Args:
        loaded: the model.
        questions: those about one picture together.
        look: is given `Ferret.encode` and a picture's key; gives the scene.

    Returns:
        A reply for each question, by its id.
    """
    ferret = Ferret(loaded)
    model = FerretModel(ferret, Path())
    replies: dict[str, Reply] = {}
    with _in_one_precision(loaded):
        for key, group in groupby(questions, key=lambda one: one.picture):
            asked = list(group)
            try:
                scene = look(ferret.encode, key)
            except InputError as error:
                replies |= {one.id: Reply(None, error=str(error)) for one in asked}
                continue
            for start in range(0, len(asked), _AT_ONCE):
                some = asked[start : start + _AT_ONCE]
                replies |= {one.id: reply for one, reply in zip(some, model.answer(scene, some), strict=True)}
    return replies


def ask_files(
    loaded: LoadedModel, questions: Sequence[Question], files: Mapping[str, Path]
) -> dict[str, Reply]:
    """`ask`, of pictures that are files; `files`: by picture key."""

    def look(encode: Callable[[Any], Scene], key: str) -> Scene:
        return encode(files[key])

    return ask(loaded, questions, look)


@contextmanager
def _in_one_precision(loaded: LoadedModel) -> Iterator[None]:
    """In training with bf16 what rests is kept in half precision, and what is taught is not: both in float32 here."""
    # The fast engine's models have no parameters of transformers', and one precision.
    parameters = list(loaded.model.parameters()) if isinstance(loaded.model, nn.Module) else []
    mixed = len({one.dtype for one in parameters}) > 1
    halves = [(one, one.data) for one in parameters if mixed and one.dtype == torch.bfloat16]
    try:
        for one, half in halves:
            one.data = half.float()
        with torch.no_grad():
            yield
    finally:
        for one, half in halves:
            one.data = half


def _typed(task: str, key: str, value: Any) -> Any:
    """An option of a recipe as the task's `load` takes it."""
    if key in _PATHS:
        return Path(str(value)).expanduser()
    if key in _NUMBERS:
        try:
            return int(value)
        except (TypeError, ValueError):
            raise InputError(f"monitor.tasks.{task}.{key} must be a whole number, not {value!r}") from None
    return value
