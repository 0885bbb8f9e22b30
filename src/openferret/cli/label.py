"""`openferret label`: a folder of pictures and a list of names become a data set to review."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openferret.cli.commands import with_options
from openferret.cli.verbs import Threshold

if TYPE_CHECKING:
    from rich.progress import Progress

    from openferret.cli.options import Settings
    from openferret.labelling.job import LabelledPicture, Labelling
    from openferret.labelling.sources import Source

_FORMATS = ("coco", "yolo", "label-studio")
_REPORTED = 20  # pictures that failed, named on the terminal; all are in labels.jsonl


@dataclass(frozen=True)
class Model:
    """The model that labels."""

    model: Annotated[str, typer.Option(metavar="NAME", help="kit, or a model folder.")] = "kit"
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:1 or mps.")] = "cpu"
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the sampled points.")] = 0


@with_options
def label(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help="Pictures, folders of pictures, or .tar archives.")
    ],
    names: Annotated[
        str, typer.Option(metavar='"A,B,..."', help="What to look for; the order numbers the classes.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the labels and their review go.")],
    model: Model,
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="coco, yolo or label-studio.")
    ] = "coco",
    threshold: Threshold = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in DIR: what is labelled there is not asked again.")
    ] = False,
    review: Annotated[
        int, typer.Option(min=0, help="Pictures on the review's sheets and page, most doubtful first.")
    ] = 200,
    image_prefix: Annotated[
        str | None,
        typer.Option(metavar="URL", help="What Label Studio puts before a picture's name to fetch it."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="ray: workers on a Ray cluster. In this process: fast, reference or auto, as for every verb.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=4096, help="Models at a time, of --engine ray.")] = 1,
) -> None:
    """Label pictures for training or review: boxes for every name, as COCO, YOLO or Label Studio.

    openferret label photos/ --names "cat,dog,traffic light" --format coco --out labels/

    Each answer is kept as it comes: after any interruption, the same command with --resume goes on.
    """
    from openferret.cli import inputs, session
    from openferret.cli.options import Settings
    from openferret.errors import InputError
    from openferret.labelling.job import Labelling, parse_names
    from openferret.labelling.sources import find_sources, source_names
    from openferret.labelling.writers import LOCAL_FILES, check_picture_names, write_labels

    if form not in _FORMATS:
        raise InputError(f"--format must be one of {', '.join(_FORMATS)}, not {form!r}")
    if image_prefix is not None and form != "label-studio":
        raise InputError("--image-prefix belongs to --format label-studio")
    on_ray = engine == "ray"
    if workers > 1 and not on_ray:
        raise InputError("--workers belongs to --engine ray: one process holds one model")
    inputs.check_threshold(threshold)
    chosen = None if on_ray else engine
    settings = Settings(model=model.model, device=model.device, seed=model.seed, engine=chosen)
    session.check_settings(settings)
    identity = {name: value for name, value in settings.identity().items() if value is not None}
    if inputs.is_file(names):
        raise InputError(f'--names {names!r} is a file: give what it holds, as in --names "$(cat {names})"')
    labelling = Labelling(parse_names(names), threshold, identity)
    pictures = find_sources(images)
    check_picture_names(form, list(source_names(pictures).values()))
    with _opened(out, labelling, resume):
        tally, labelled = _run(pictures, labelling, settings, out, workers if on_ray else 0)
        prefix = LOCAL_FILES if image_prefix is None else image_prefix
        written = write_labels(out, form, labelling.names, labelled, prefix)
        _report(out, labelling, labelled, tally, written, review)
    if tally["failed"]:
        raise typer.Exit(3)


@contextmanager
def _opened(out: Path, labelling: Labelling, resume: bool) -> Iterator[None]:
    """Hold the folder for this process, once it is known to be new or to be this labelling's."""
    from filelock import FileLock, Timeout

    from openferret.errors import InputError
    from openferret.labelling.job import begun_differently

    answers = out / "labels.jsonl"
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another `openferret label` is at work in {str(out)!r}: let it finish") from None
    except OSError as error:
        raise InputError(f"--out {str(out)!r} cannot be written: {error.strerror or error}") from error
    try:
        if answers.exists() and not resume:
            raise InputError(f"{str(out)!r} holds labels already: go on with --resume, or give another --out")
        if answers.exists() and begun_differently(answers, labelling):
            raise InputError(
                f"{str(out)!r} was begun with other names, threshold, model or seed: give another --out"
            )
        yield
    finally:
        lock.release()


def _run(
    pictures: Sequence[Source], labelling: Labelling, settings: Settings, out: Path, workers: int
) -> tuple[Counter[str], list[LabelledPicture]]:
    from openferret.cli import session
    from openferret.cli.output import print_warnings
    from openferret.cli.results import open_results
    from openferret.errors import InputError
    from openferret.labelling.job import label_pictures, read_labelled

    tally = Counter[str]()
    warned: dict[str, None] = {}
    try:
        with open_results(out / "labels.jsonl") as results, _progress() as progress:
            if workers:
                from openferret.labelling.cluster import label_on_ray

                load = partial(session.load_model, settings)
                work = label_on_ray(pictures, labelling, results, load, workers)
            else:
                work = label_pictures(pictures, labelling, results, lambda: session.load_model(settings))
            for picture, outcome in progress.track(work, total=len(pictures), description="labelling"):
                if isinstance(outcome, InputError):
                    tally["failed"] += 1
                    if tally["failed"] <= _REPORTED:
                        print(f"skipped: {picture}: {outcome}", file=sys.stderr)
                elif outcome is None:
                    tally["already there"] += 1
                else:
                    tally["labelled"] += 1
                    warned.update(dict.fromkeys(outcome.warnings))
    except KeyboardInterrupt:
        print("what is labelled is kept: the same command with --resume goes on", file=sys.stderr)
        raise
    print_warnings(warned)
    return tally, list(read_labelled(out / "labels.jsonl", pictures, labelling))


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())


def _report(
    out: Path,
    labelling: Labelling,
    labelled: Sequence[LabelledPicture],
    tally: Counter[str],
    written: Sequence[Path],
    review: int,
) -> None:
    from rich.console import Console
    from rich.table import Table

    from openferret.labelling.review import count_classes, write_review

    table = Table("name", box=None, pad_edge=False)
    for heading in ("pictures", "boxes", "median score", "lowest"):
        table.add_column(heading, justify="right")
    for one in count_classes(labelling.names, labelled):
        scores = ("-" if score is None else f"{score:.2f}" for score in (one.median, one.lowest))
        table.add_row(one.name, str(one.pictures), str(one.boxes), *scores)
    Console(highlight=False, markup=False).print(table)
    for path in written:
        print(path)
    if review and labelled:
        page, *sheets = write_review(out / "review", labelling.names, labelled, review)
        print(page)
        print(f"{sheets[0]}" + (f" to {sheets[-1].name}" if len(sheets) > 1 else ""))
    print(", ".join(f"{count} {what}" for what, count in tally.items()), file=sys.stderr)
