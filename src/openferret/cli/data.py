"""`openferret data`: a data set from a recipe, and a look at one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openferret.cli.data_models import analogies, dialogues, pseudo_ground
from openferret.cli.terminal import printable
from openferret.errors import InputError

if TYPE_CHECKING:
    from openferret.data.building.pipeline import Progress

app = typer.Typer(
    no_args_is_help=True,
    help="Build a GRIT, or training data of your own boxes, from a recipe; count, check and view it.",
)

app.command()(analogies)
app.command()(dialogues)
app.command()(pseudo_ground)

_Place = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `data build` has made.")]
_SHOWN = 20


@app.command()
def build(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A YAML file, or a recipe that ships: grit, grit-mini.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to make.")],
    path: Annotated[
        list[str] | None, typer.Option("--path", metavar="NAME=DIR", help="Stands for ${NAME} in the recipe.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change the recipe, as in seed=1.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Jobs at a time.")] = os.cpu_count() or 1,
    engine: Annotated[str, typer.Option(help="local, or ray for a cluster.")] = "local",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Make a data set; run again after a kill, it goes on where it stopped."""
    from openferret.data.building.pipeline import build as make
    from openferret.data.building.recipe import load_recipe, path_variables
    from openferret.data.inspection.stats import as_text, count
    from openferret.data.loading.dataset import Dataset

    loaded = load_recipe(recipe, settings or (), path_variables(path or ()))
    with _bar(not quiet and sys.stderr.isatty()) as progress:
        make(loaded, out, workers, engine, progress)
    dataset = Dataset.open(out)
    typer.echo(printable(as_text(dataset, count(dataset))))
    typer.echo(out)


@app.command()
def stats(
    place: _Place,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Count samples by task and source, beside the paper's counts."""
    import json

    from openferret.data.inspection.stats import as_text, count
    from openferret.data.loading.dataset import Dataset

    dataset = Dataset.open(place)
    found = count(dataset)
    if as_json:
        content = {"rows": list(found.rows), "parts": dict(found.parts), "other": found.other}
        typer.echo(json.dumps(content, indent=1))
    else:
        typer.echo(printable(as_text(dataset, found)))


@app.command()
def check(
    place: _Place,
    pictures: Annotated[str, typer.Option(help="none, exists, or open each of them.")] = "exists",
    recipe: Annotated[
        str | None, typer.Option(metavar="RECIPE", help="Look for the evaluation pictures that it names.")
    ] = None,
    path: Annotated[
        list[str] | None, typer.Option("--path", metavar="NAME=DIR", help="Stands for ${NAME} in the recipe.")
    ] = None,
) -> None:
    """Look through all of a data set; name everything that is wrong and exit with 3 if anything is."""
    from openferret.data.building.leaks import read_filter
    from openferret.data.building.recipe import load_recipe, path_variables
    from openferret.data.inspection.checking import find_problems, how_to_look
    from openferret.data.loading.dataset import Dataset

    leaks = read_filter(load_recipe(recipe, (), path_variables(path or ())).leaks) if recipe else None
    look, number = how_to_look(pictures), 0
    for problem in find_problems(Dataset.open(place), look, leaks):
        number += 1
        typer.echo(f"{problem.kind}\t{printable(str(problem))}")
    typer.echo(f"{number} problems" if number else "no problems", err=True)
    if number:
        raise typer.Exit(3)


@app.command()
def view(
    place: _Place,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("view.html"),
    limit: Annotated[int, typer.Option(min=1, max=5000, help="Most samples.")] = 60,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    source: Annotated[str | None, typer.Option(help="Only this source of the recipe.")] = None,
    negative: Annotated[
        bool | None, typer.Option("--negative/--positive", help="Only samples of this sort.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another number, other samples.")] = 0,
) -> None:
    """Make a page of samples with their boxes and regions drawn, in one file."""
    from openferret.data.inspection.view import Chosen, write_page
    from openferret.data.loading.dataset import Dataset

    shown = write_page(Dataset.open(place), Chosen(limit, task, source, negative, seed), out)
    if not shown:
        raise InputError(f"{place} has no such samples; `openferret data stats` tells what there is")
    typer.echo(out)


@app.command()
def export(
    place: _Place,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The JSON file to write.")],
    form: Annotated[str, typer.Option("--form", help="llava, ms-swift or llama-factory.")] = "llava",
    space: Annotated[
        str | None,
        typer.Option(help="Of the boxes: bins, pixels or normalized; the form's usual one by default."),
    ] = None,
) -> None:
    """Write the samples as another trainer reads them; pictures that are kept by path get their full path."""
    from dataclasses import replace

    from openferret.data.formats.exporters import SPACES, export_samples
    from openferret.data.loading.dataset import Dataset

    if space is not None and space not in SPACES:
        raise InputError(f"--space must be one of {', '.join(SPACES)}, not {space!r}")
    dataset = Dataset.open(place)
    samples = (
        replace(one, picture=replace(one.picture, file=str(dataset.picture_path(one.picture))))
        if one.picture is not None and not dataset.manifest["picture_files"]
        else one
        for one in dataset.samples()
    )
    number = export_samples(out, samples, form, space)  # type: ignore[arg-type]  # one of SPACES
    typer.echo(f"{number} samples", err=True)
    typer.echo(out)


@app.command()
def sources() -> None:
    """List the sources that can be read, and how their files must be laid out."""
    from openferret.data.sources import SOURCES

    for name, kind in sorted(SOURCES.items()):
        typer.echo(f"{name:20} {kind.title}" + (f" ({kind.licence})" if kind.licence else ""))
        typer.echo(f"{'':20} {'; '.join(kind.layout)}")


@contextmanager
def _bar(shown: bool) -> Iterator[Progress]:
    """One progress bar for all steps."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns: tuple[Any, ...] = (
        *(TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn()),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown) as bar:
        task = bar.add_task("starting", total=None)

        def move(step: str, done: int, total: int) -> None:
            bar.update(task, description=step, completed=done, total=total)

        yield move
