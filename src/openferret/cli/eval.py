"""`openferret eval`: benchmarks with an official and a strict score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from openferret.cli.commands import with_options
from openferret.cli.eval_options import DATA_OF, Candidate, Scoring
from openferret.eval.tasks import TASKS

app = typer.Typer(
    no_args_is_help=True,
    help="Measure a model on benchmarks: TASK, list, score, report, leaks. `openferret eval TASK --help` "
    "says what a task needs.",
)
_score = typer.Typer(no_args_is_help=True, help="Score a file of predictions, without a model.")
app.add_typer(_score, name="score")

Places = Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders that a run has written.")]


@app.command("list")
def list_tasks() -> None:
    """Name the tasks."""
    for name, summary in TASKS.items():
        typer.echo(f"{name:20} {summary}")


@app.command()
def report(
    places: Places,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for report.html and report.md.")] = Path(),
) -> None:
    """Make one page, and Markdown, of several runs."""
    from openferret.eval.report import write_report

    for file in write_report(places, out):
        typer.echo(file)


@app.command()
def leaks(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", help="A folder of pictures, or a file of names.")],
    evaluation: Annotated[Path, typer.Argument(metavar="EVAL", help="The same.")],
    near: Annotated[int, typer.Option(help="Bits of 64 by which looks may differ.")] = 4,
) -> None:
    """List pictures that stand in both; exit with 3 if there are any."""
    from openferret.eval import leaks as search

    found = search.find_leaks(search.read_pictures(train), search.read_pictures(evaluation), near)
    for leak in found:
        typer.echo(f"{leak.evaluation}\t{leak.train}\t{leak.how}\t{leak.distance}")
    typer.echo(f"{len(found)} pictures stand in both", err=True)
    if found:
        raise typer.Exit(3)


def _add_task(name: str, data: type) -> None:
    def run_task(given: Any, candidate: Candidate) -> None:
        from openferret.cli import eval_run

        eval_run.run(name, given, candidate)

    def score_task(predictions: Path, given: Any, scoring: Scoring) -> None:
        from openferret.cli import eval_run

        eval_run.score(name, predictions, given, scoring)

    run_task.__doc__ = f"Ask and score: {TASKS[name]}."
    score_task.__doc__ = f"Score predictions: {TASKS[name]}."
    file = Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="JSON lines, ours or another tool's.")]
    run_task.__annotations__ = {"given": data, "candidate": Candidate, "return": None}
    score_task.__annotations__ = {"predictions": file, "given": data, "scoring": Scoring, "return": None}
    app.command(name)(with_options(run_task))
    _score.command(name)(with_options(score_task))


for _name, _data in DATA_OF.items():
    _add_task(_name, _data)
