"""What `openferret eval` does once its options are read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import track

from openferret.cli.eval_options import Bench, Candidate, Scoring
from openferret.cli.terminal import printable
from openferret.errors import InputError
from openferret.eval import runner
from openferret.eval.comparison import Comparison, compare_files
from openferret.eval.dialects import DIALECTS
from openferret.eval.models import FerretModel, Model
from openferret.eval.peers import PREFIX, load_peer
from openferret.eval.scores import Benchmark
from openferret.eval.tasks import load

_LISTED = 10


def run(task: str, data: Any, candidate: Candidate) -> None:
    """Asks a model and scores it.

    Raises:
        InputError: files, options or a folder that cannot be used.
        typer.Exit: with 3 if pictures are missing and that was not allowed.
    """
    loader = _loader(candidate)
    benchmark = _benchmark(task, data, candidate.out)
    planned = runner.plan(benchmark, candidate.limit)
    _report_missing(planned.missing, candidate.allow_missing)
    results = runner.run(
        benchmark,
        planned,
        loader,
        candidate.out,
        batch=candidate.batch,
        resume=candidate.resume,
        progress=_progress,
    )
    print_results(results)
    typer.echo(candidate.out / "results.json")


def score(task: str, predictions: Path, data: Any, scoring: Scoring) -> None:
    """Scores a predictions file."""
    benchmark = _benchmark(task, data, scoring.out or predictions.parent)
    planned = runner.plan(benchmark, scoring.limit, look=False)
    print_results(runner.score_file(benchmark, planned, predictions, scoring.out))
    if scoring.against is not None:
        print_comparison(compare_files(benchmark, planned, scoring.against, predictions, scoring.out))


def print_results(results: Mapping[str, Any]) -> None:
    """Figures as a table of text, one line each, and the notes."""
    width = max((len(one["name"]) for one in results["figures"]), default=0)
    for one in results["figures"]:
        factor, form = (100, " %") if one["unit"] == "share" else (1, "")
        value = "-" if one["value"] is None else f"{factor * one['value']:.2f}{form}"
        interval = "" if one["low"] is None else f"[{factor * one['low']:.2f}, {factor * one['high']:.2f}]"
        line = f"{one['name']:{width}}  {one['rule']:8}  {value:>9}  {interval:18}  n = {one['n']}"
        typer.echo(printable(line.rstrip()))
    typer.echo(f"valid: {results['valid_percent']} % of {results['n']} questions", err=True)
    if results["unanswered"]:
        typer.echo(f"{results['unanswered']} of them have no answer and count as wrong", err=True)
    for note in results["notes"]:
        typer.echo(printable(note), err=True)


def print_comparison(comparison: Comparison) -> None:
    """Differences as a table of text, in points of a hundred or as the figure has them."""
    width = max((len(one.name) for one in comparison.differences), default=0)
    for one in comparison.differences:
        factor = 100 if one.unit == "share" else 1
        value = "-" if one.difference is None else f"{factor * one.difference:+.2f} points"
        interval = ""
        if one.low is not None and one.high is not None:
            interval = f"[{factor * one.low:+.2f}, {factor * one.high:+.2f}]"
        typer.echo(
            printable(f"{one.name:{width}}  {one.rule:8}  {value:>13}  {interval:18}  n = {one.n}".rstrip())
        )
    typer.echo(f"same words: {comparison.same_words} of {comparison.questions} answers", err=True)


def _benchmark(task: str, data: Any, folder: Path) -> Benchmark:
    options = dict(vars(data))
    if isinstance(data, Bench):
        keys = ("judge_url", "judge_model", "judge_key_env", "judge_cache")
        given = {key: options.pop(key) for key in keys}
        options["judge"] = _judge(given, folder)
    # A list that was not given is None to typer, and empty to a task.
    lists = {"questions", "context"}
    options = {
        name: () if value is None and name in lists and task != "lvis-refer" else value
        for name, value in options.items()
    }
    return load(task, options)


def _judge(given: Mapping[str, Any], folder: Path) -> Any:
    if given["judge_url"] is None and given["judge_model"] is None:
        return None
    if given["judge_url"] is None or given["judge_model"] is None:
        raise InputError("a judge needs both --judge-url and --judge-model")
    from openferret.eval.judge import Judge
    from openferret.eval.transport import ChatServer, key_from

    server = ChatServer(given["judge_url"], given["judge_model"], key_from(given["judge_key_env"]))
    return Judge(server, given["judge_cache"] or folder / "judge.jsonl")


def _loader(candidate: Candidate) -> Callable[[], Model]:
    if candidate.endpoint is None and candidate.model.startswith(PREFIX):
        folder = Path(candidate.model.removeprefix(PREFIX))
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder: --model {PREFIX}FOLDER wants one of transformers")
        return lambda: load_peer(folder, candidate.device)
    if candidate.endpoint is None:
        return lambda: FerretModel.load(
            candidate.model, candidate.device, candidate.model_seed, candidate.engine, candidate.drafts
        )
    from openferret.eval.endpoint import EndpointModel
    from openferret.eval.transport import ChatServer, key_from

    if candidate.dialect not in DIALECTS:
        raise InputError(f"--dialect must be one of {', '.join(DIALECTS)}, not {candidate.dialect!r}")
    server = ChatServer(candidate.endpoint, candidate.model, key_from(candidate.endpoint_key_env))
    return lambda: EndpointModel(server, candidate.dialect)


def _report_missing(missing: Sequence[str], allowed: bool) -> None:
    if not missing:
        return
    for name in missing[:_LISTED]:
        typer.echo(f"missing: {printable(name)}", err=True)
    more = f", {len(missing) - _LISTED} of them not listed" if len(missing) > _LISTED else ""
    typer.echo(f"{len(missing)} pictures are missing{more}", err=True)
    if not allowed:
        typer.echo("give --allow-missing to go on without them", err=True)
        raise typer.Exit(3)


def _progress(groups: Sequence[Any]) -> Iterator[Any]:
    hidden = not sys.stderr.isatty()
    yield from track(groups, description="asking", console=Console(stderr=True), disable=hidden)
