"""`openferret finetune`: a folder of pictures and their boxes become a model that knows them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from openferret.train.finetune.own_data import OwnData
    from openferret.train.finetune.running import Outcome

_PROBLEMS = 8


def finetune(
    data: Annotated[
        Path,
        typer.Option(metavar="FILE", help="COCO json, YOLO folder (or data.yaml), or Label Studio json."),
    ],
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the pictures.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the model and its report go.")],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="To begin with: kit, or a model folder.")
    ] = "kit",
    held_out: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of the pictures that is measured on.")
    ] = 0.2,
    steps: Annotated[int, typer.Option(min=1, help="Of learning where the classes are.")] = 160,
    language_steps: Annotated[
        int, typer.Option(min=0, help="Of learning to speak of them; 0 leaves the language model as it is.")
    ] = 48,
    batch: Annotated[int, typer.Option(min=1, help="Most pictures at once; fewer need less memory.")] = 12,
    rate: Annotated[float, typer.Option(min=0.01, max=100, help="Factor of every learning rate.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of every choice by chance.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Of the processor; 0 is all of them.")] = 0,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Show half of the pictures as a mirror shows them.")
    ] = False,
    trackio: Annotated[bool, typer.Option("--trackio", help="Log to trackio too.")] = False,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out classes without boxes, missing and damaged pictures."),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Look at the data, print the table, and stop.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in DIR after an interruption.")] = False,
) -> None:
    """Teach a model your own boxes: checks the data, says how long it takes, learns, measures before and after.

    openferret finetune --data boxes.json --images photos/ --out mine/

    The result is DIR/model: every verb takes it as --model. What is labelled is taken to be all there is of a class
    on its picture.
    """
    from openferret.train.finetune.running import Settings, look_at
    from openferret.train.finetune.running import finetune as run
    from openferret.train.finetune.stages import Effort

    boards = ("tensorboard", "trackio") if trackio else ("tensorboard",)
    effort = Effort(steps, language_steps, batch, rate, seed, boards, threads, mirror)
    settings = Settings(data, images, out, model, effort, held_out, skip_bad)
    found = look_at(settings, _show)
    if check:
        return
    outcome = run(settings, found, lambda text: typer.echo(text, err=True), resume)
    _report(outcome)
    typer.echo(outcome.folder)


def _show(data: OwnData) -> None:
    from rich.console import Console
    from rich.table import Table

    from openferret.cli.terminal import printable

    console = Console(stderr=True, highlight=False, markup=False)
    table = Table("class", box=None, pad_edge=False)
    for heading in ("boxes", "pictures", "median size"):
        table.add_column(heading, justify="right")
    for one in data.counts():
        size = f"{one.size:.1f} %" if one.boxes else "-"
        table.add_row(printable(one.name), str(one.boxes), str(one.pictures), size)
    console.print(table)
    bare = sum(not one.boxes for one in data.pictures)
    console.print(
        f"{data.title}: {len(data.pictures)} pictures ({bare} without boxes), {len(data.missing)} missing, "
        f"{len(data.damaged)} damaged"
    )
    if data.pictures:
        widths, heights = (
            sorted(one.width for one in data.pictures),
            sorted(one.height for one in data.pictures),
        )
        console.print(f"sizes: {widths[0]} to {widths[-1]} wide, {heights[0]} to {heights[-1]} high")
    for line in data.problems.lines()[:_PROBLEMS]:
        console.print(printable(line))


def _report(outcome: Outcome) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(f"on {outcome.held_out} held-out pictures", box=None, pad_edge=False)
    for heading in ("before", "after", "difference", "95 %"):
        table.add_column(heading, justify="right")
    for one in outcome.changes:
        change = one.difference
        if change.value is None or change.low is None or change.high is None:
            continue
        interval = f"[{change.low:+.3f}, {change.high:+.3f}]"
        table.add_row(one.name, f"{one.before:.3f}", f"{one.after:.3f}", f"{change.value:+.3f}", interval)
    Console(file=sys.stdout, highlight=False, markup=False).print(table)
