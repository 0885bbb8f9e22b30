"""A question, asked of one picture or of many."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from openferret.cli import output, session
from openferret.cli.inputs import Pointed, references
from openferret.cli.options import Settings
from openferret.cli.results import Results, open_results
from openferret.errors import InputError
from openferret.images import find_images, load_image
from openferret.regions import doubt_pixels, fit_region

if TYPE_CHECKING:
    from openferret.answer import Answer
    from openferret.predictor import Ferret, Scene


@dataclass(frozen=True)
class Job:
    """What is asked of a picture: `requests` names each answer that `answer` gives, in order."""

    requests: tuple[Mapping[str, object], ...]
    answer: Callable[[Scene], Sequence[Answer]]
    pointed: tuple[Pointed, ...] = ()
    title: str | None = None
    warnings: tuple[str, ...] = ()

    def check(self, image: Image.Image) -> list[str]:
        """Warnings about the regions on this picture; InputError if one cannot be put on it."""
        regions = [pointed.region for pointed in self.pointed]
        fitted = [doubt_pixels(one, *image.size) + fit_region(one, *image.size)[1] for one in regions]
        return [*self.warnings, *(warning for warnings in fitted for warning in warnings)]

    def draw(self, image: Image.Image, answers: Sequence[Answer], target: Path | None) -> None:
        """Write the drawing of the answers, if one is wanted."""
        if target is not None:
            output.save_drawing(target, image, answers, [p.region for p in self.pointed], self.title)


def refer(pointed: tuple[Pointed, ...], question: str | None, settings: Settings) -> Job:
    """What is this? One answer for each region."""
    requests = tuple(_request("refer", settings, region=one.words, ask=question) for one in pointed)
    length = _length(settings)
    return Job(
        requests,
        lambda scene: [scene.refer(p.region, question, **length) for p in pointed],
        pointed,
        question,
    )


def ground(phrases: Sequence[str], merge: bool, threshold: float | None, settings: Settings) -> Job:
    """Where are these phrases? One answer."""
    request = _request("ground", settings, phrases=list(phrases), merge=merge, threshold=threshold)
    length = _length(settings)
    return Job(
        (request,),
        lambda scene: [scene.ground(list(phrases), merge=merge, threshold=threshold, **length)],
        title=f"Where: {', '.join(phrases)}?",
    )


def describe(settings: Settings, drafts: int = 1) -> Job:
    """What is in the picture, in sentences? The best of so many drafts."""
    request = _request("describe", settings, drafts=drafts if drafts > 1 else None)
    given = _length(settings) | ({"drafts": drafts} if drafts > 1 else {})
    return Job((request,), lambda scene: [scene.describe(**given)])


def detect(threshold: float | None, settings: Settings) -> Job:
    """What is in the picture, as a list?"""
    request = _request("detect", settings, threshold=threshold)
    return Job((request,), lambda scene: [scene.detect(threshold=threshold, **_length(settings))])


def ask(question: str, pointed: tuple[Pointed, ...], settings: Settings) -> Job:
    """Ask a question that calls its regions [0], [1], ..."""
    request = _request("ask", settings, question=question, regions=[one.words for one in pointed])
    regions = [one.region for one in pointed]
    unused = sorted(set(range(len(pointed))) - set(references(question)))
    return Job(
        (request,),
        lambda scene: [scene.ask(question, regions, **_length(settings))],
        pointed,
        question,
        tuple(f"the question does not mention region [{number}]" for number in unused),
    )


def _request(verb: str, settings: Settings, **asked: object) -> dict[str, object]:
    request = {"verb": verb, **asked, **settings.identity()}
    return {name: value for name, value in request.items() if value is not None}


def _length(settings: Settings) -> dict[str, Any]:
    # Left out, the predictor's own default for the verb holds.
    return {} if settings.max_new_tokens is None else {"max_new_tokens": settings.max_new_tokens}


def run(paths: Sequence[str], job: Job, settings: Settings) -> None:
    """Ask one picture and print the answer, or many and write lines of JSON.

    Raises:
        InputError: Something given cannot be used; in a batch a single picture is reported in its line.
        typer.Exit: With 3, if pictures of a batch failed.
    """
    session.check_settings(settings)
    pictures = find_images(paths)
    batch = settings.out is not None or len(pictures) > 1 or any(Path(path).is_dir() for path in paths)
    drawings = output.plan_drawings(settings.draw, pictures, batch)
    if batch:
        with open_results(settings.out) as results:
            _run_batch(list(zip(pictures, drawings, strict=True)), job, settings, results)
    else:
        _run_one(pictures[0], drawings[0], job, settings)


def _run_one(picture: Path, drawing: Path | None, job: Job, settings: Settings) -> None:
    image = load_image(picture)
    warnings = job.check(image)
    answers = job.answer(session.load_model(settings).encode(image))
    output.print_warnings([*warnings, *(warning for answer in answers for warning in answer.warnings)])
    if settings.json:
        output.print_json(answers)
    else:
        output.print_answers(answers, [pointed.words for pointed in job.pointed])
    job.draw(image, answers, drawing)


def _run_batch(
    work: Sequence[tuple[Path, Path | None]], job: Job, settings: Settings, results: Results
) -> None:
    ferret: Ferret | None = None
    tally = Counter[str]()
    try:
        with _progress(to_stdout=results.stream is sys.stdout) as progress:
            for picture, drawing in progress.track(work, description=str(job.requests[0]["verb"])):
                todo = [n for n, request in enumerate(job.requests) if not results.has(str(picture), request)]
                if not todo:
                    tally["already there"] += 1
                    continue
                try:
                    image = load_image(picture)
                    job.check(image)
                    ferret = ferret or session.load_model(settings)
                    answers = job.answer(ferret.encode(image))
                    job.draw(image, answers, drawing)
                    outcomes = [answer.to_dict() for answer in answers]
                except InputError as error:
                    outcomes = [{"error": str(error)}] * len(job.requests)
                tally["failed" if "error" in outcomes[0] else "answered"] += 1
                for n in todo:
                    results.write(str(picture), job.requests[n], outcomes[n])
    except KeyboardInterrupt:
        _print_tally(tally)
        raise
    _print_tally(tally)
    if tally["failed"]:
        raise typer.Exit(3)


def _print_tally(tally: Mapping[str, int]) -> None:
    print(", ".join(f"{count} {what}" for what, count in tally.items()), file=sys.stderr)


def _progress(to_stdout: bool) -> Progress:
    # On one terminal, lines that appear would disturb a bar that is redrawn: the lines suffice.
    hidden = not sys.stderr.isatty() or (to_stdout and sys.stdout.isatty())
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True), redirect_stdout=False, disable=hidden)
