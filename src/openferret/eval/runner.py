"""Asks a model every question of a benchmark, keeps each reply at once, then scores them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import Any

from openferret.errors import InputError
from openferret.eval.files import is_regular, read_json
from openferret.eval.gallery import make_gallery
from openferret.eval.models import Model
from openferret.eval.predictions import Predictions, open_predictions, read_predictions
from openferret.eval.questions import Question, Reply, questions_digest
from openferret.eval.results import make_results, write_json
from openferret.eval.scores import Benchmark
from openferret.images import load_image


@dataclass(frozen=True)
class Plan:
    """What will be asked: questions whose picture is there; and the pictures that are not."""

    questions: tuple[Question, ...]
    missing: tuple[str, ...]
    left_out: int


def plan(benchmark: Benchmark, limit: int | None = None, look: bool = True) -> Plan:
    """Chooses the questions of the first `limit` pictures, and looks whether the pictures are there.

    Raises:
        InputError: the benchmark has no question at all.
    """
    if not benchmark.questions:
        raise InputError(f"{benchmark.task}: these files hold nothing to ask")
    pictures = list(dict.fromkeys(one.picture for one in benchmark.questions))
    chosen = set(pictures if limit is None else pictures[:limit])
    missing = {key for key in chosen if look and not is_regular(benchmark.pictures[key])}
    asked = tuple(one for one in benchmark.questions if one.picture in chosen - missing)
    left_out = sum(one.picture in missing for one in benchmark.questions)
    names = sorted(str(benchmark.pictures[key]) for key in missing)
    return Plan(asked, tuple(names), left_out)


def run(
    benchmark: Benchmark,
    planned: Plan,
    load: Callable[[], Model],
    out: Path,
    *,
    batch: int = 16,
    resume: bool = False,
    progress: Callable[[Sequence[Any]], Iterator[Any]] = iter,
) -> dict[str, Any]:
    """Asks, scores, and writes `predictions.jsonl`, `run.json`, `results.json` and `gallery.json`.

    Args:
        benchmark: with its data read.
        planned: what to ask of it.
        load: gives the model; called after everything that can be checked without it.
        out: folder to write to.
        batch: questions about one picture that a model is handed at once.
        resume: go on with the predictions in `out`.
        progress: wraps the list of pictures, to show how far it is.

    Returns:
        The content of `results.json`.

    Raises:
        InputError: the folder holds another run.
    """
    if batch < 1:
        raise InputError(f"--batch must be at least 1, not {batch}")
    if not planned.questions:
        raise InputError(f"{benchmark.task}: no picture is there to be asked about")
    with open_predictions(out / "predictions.jsonl", planned.questions, resume) as kept:
        model = load()
        card = model.card().to_dict()
        earlier = _check_run(out / "run.json", benchmark, planned, card, bool(kept.replies))
        started = perf_counter()
        try:
            _ask_all(benchmark, planned, model, kept, batch, progress)
        finally:
            seconds = earlier + perf_counter() - started
            write_json(out / "run.json", _run_record(benchmark, planned, card, seconds))
    return score_replies(benchmark, planned, kept.replies, out, card, seconds)


def score_file(
    benchmark: Benchmark, planned: Plan, predictions: Path, out: Path | None = None
) -> dict[str, Any]:
    """Scores a predictions file, ours or another tool's, without a model.

    Raises:
        InputError: the file cannot be used.
    """
    replies = read_predictions(predictions, planned.questions)
    record = predictions.parent / "run.json"
    known = read_json(record) if record.is_file() else {}
    same = isinstance(known, dict) and known.get("questions") == questions_digest(planned.questions)
    model, seconds = (known.get("model"), known.get("seconds")) if same else (None, None)
    return score_replies(benchmark, planned, replies, out, model, seconds)


def score_replies(
    benchmark: Benchmark,
    planned: Plan,
    replies: Mapping[str, Reply],
    out: Path | None,
    model: Mapping[str, Any] | None,
    seconds: float | None,
) -> dict[str, Any]:
    """Scores replies; with `out`, writes `results.json` and `gallery.json` there."""
    score = benchmark.score(planned.questions, replies)
    unanswered = sum(one.id not in replies or replies[one.id].answer is None for one in planned.questions)
    results = make_results(
        benchmark,
        planned.questions,
        score,
        model,
        seconds=seconds,
        left_out=planned.left_out,
        unanswered=unanswered,
    )
    if out is not None:
        write_json(out / "gallery.json", make_gallery(score.cases, benchmark.pictures))
        write_json(out / "results.json", results)
    return results


def _ask_all(
    benchmark: Benchmark,
    planned: Plan,
    model: Model,
    kept: Predictions,
    batch: int,
    progress: Callable[[Sequence[Any]], Iterator[Any]],
) -> None:
    todo = [one for one in planned.questions if one.id not in kept.replies]
    order = {key: index for index, key in enumerate(dict.fromkeys(one.picture for one in todo))}
    todo.sort(key=lambda one: order[one.picture])
    groups = [(key, list(group)) for key, group in groupby(todo, key=lambda one: one.picture)]
    for key, questions in progress(groups):
        try:
            view = model.look(load_image(benchmark.pictures[key]))
        except InputError as error:
            for question in questions:
                kept.write(question, Reply(None, error=str(error)))
            continue
        for start in range(0, len(questions), batch):
            asked = questions[start : start + batch]
            for question, reply in zip(asked, model.answer(view, asked), strict=True):
                kept.write(question, reply)


def _run_record(
    benchmark: Benchmark, planned: Plan, card: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    return {
        "task": benchmark.task,
        "questions": questions_digest(planned.questions),
        "model": dict(card),
        "seconds": round(seconds, 1),
    }


def _check_run(
    path: Path, benchmark: Benchmark, planned: Plan, card: Mapping[str, Any], begun: bool
) -> float:
    """Seconds that earlier parts of this run took; InputError if the folder holds another run."""
    record = _run_record(benchmark, planned, card, 0.0)
    if not begun or not path.is_file():
        write_json(path, record)
        return 0.0
    earlier = read_json(path)
    for name in ("task", "model"):
        if not isinstance(earlier, dict) or earlier.get(name) != record[name]:
            raise InputError(f"{path.parent} holds a run of another {name}: give another --out")
    return float(earlier.get("seconds", 0.0))
