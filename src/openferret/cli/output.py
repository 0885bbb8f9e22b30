"""Answers as a person reads them, as JSON, and as drawings."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryFile

import typer
from PIL import Image
from rich.console import Console
from rich.text import Text

from openferret.answer import Answer
from openferret.checks import shorten
from openferret.cli.terminal import printable
from openferret.drawing import draw_answer
from openferret.errors import InputError
from openferret.regions import Region

_STYLES = ("bold red", "bold blue", "bold green", "bold magenta", "bold yellow", "bold cyan")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def print_json(answers: Iterable[Answer]) -> None:
    """One line of JSON an answer, on stdout."""
    for answer in answers:
        typer.echo(json.dumps(answer.to_dict()))


def print_answers(answers: Sequence[Answer], labels: Sequence[str] = ()) -> None:
    """The answer's words, its phrases coloured if stdout is a terminal, then phrases and boxes in pixels.

    Args:
        answers: What to print.
        labels: One for each answer, to tell several apart.
    """
    # Lines are left whole: a terminal wraps them itself, and a program wants them whole.
    console = Console(highlight=False, soft_wrap=True)
    for number, answer in enumerate(answers):
        if len(answers) > 1:
            console.print(Text(f"[{number}] {printable(labels[number])}", "dim"))
        console.print(_coloured(answer))
        for line in _list_boxes(answer):
            console.print(line)


def _coloured(answer: Answer) -> Text:
    text = Text(printable(answer.text))
    for number, mention in enumerate(answer.mentions):
        text.stylize(_style(number) if mention.boxes else "dim", *mention.span)
    return text


def _list_boxes(answer: Answer) -> Iterable[Text]:
    width = min(40, max((len(mention.phrase) for mention in answer.mentions), default=0))
    for number, mention in enumerate(answer.mentions):
        phrase = printable(mention.phrase).ljust(width)
        if not mention.boxes:
            yield Text.assemble("  ", (phrase, "dim"), "  not in the picture")
        for box in mention.boxes:
            place = f"[{', '.join(f'{value:.0f}' for value in box.pixels)}] px"
            score = "" if box.score is None else f"  {box.score:.2f}"
            yield Text.assemble("  ", (phrase, _style(number)), f"  {place}{score}")


def _style(number: int) -> str:
    return _STYLES[number % len(_STYLES)]


def print_warnings(warnings: Iterable[str]) -> None:
    """Each warning once, on stderr."""
    for warning in dict.fromkeys(warnings):
        print(f"warning: {printable(warning)}", file=sys.stderr)


def plan_drawings(draw: Path | None, pictures: Sequence[Path], batch: bool) -> list[Path | None]:
    """Where the drawing of each picture goes; None where none is wanted.

    One picture is drawn to the file `draw`; a batch to a folder, by the pictures' names, numbered where two
    pictures share one.

    Raises:
        InputError: Not a place that can be drawn to, or one of the pictures themselves.
    """
    if draw is None:
        return [None] * len(pictures)
    try:
        return list(_targets(draw, pictures, batch))
    except OSError as error:
        raise InputError(f"--draw {shorten(draw)!r} cannot be written: {error.strerror or error}") from error


def _targets(draw: Path, pictures: Sequence[Path], batch: bool) -> list[Path]:
    if batch:
        if draw.suffix.lower() in _SUFFIXES or draw.is_file():
            raise InputError(f"--draw {str(draw)!r}: several pictures are drawn to a folder, not a file")
        draw.mkdir(parents=True, exist_ok=True)
        targets = _distinct_names(draw, pictures)
    else:
        if draw.suffix.lower() not in _SUFFIXES or (draw.exists() and not draw.is_file()):
            raise InputError(f"--draw {str(draw)!r}: give a file that ends in {', '.join(_SUFFIXES)}")
        if not draw.parent.is_dir():
            raise InputError(f"--draw {str(draw)!r}: its folder does not exist")
        targets = [draw]
    originals = {picture.resolve() for picture in pictures}
    for target in targets:
        if target.resolve() in originals:
            raise InputError(f"--draw would overwrite the picture {str(target)!r}: give another place")
    with TemporaryFile(dir=targets[0].parent):  # better known now than when the answers are there
        return targets


def _distinct_names(folder: Path, pictures: Sequence[Path]) -> list[Path]:
    taken: set[str] = set()
    targets = []
    for picture in pictures:
        name, number = picture.stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{picture.stem}-{number}"
        taken.add(name.casefold())
        targets.append(folder / f"{name}.png")
    return targets


def save_drawing(
    target: Path, image: Image.Image, answers: Sequence[Answer], regions: Sequence[Region], title: str | None
) -> None:
    """Draw answers on their picture and write the drawing; InputError if it cannot be written."""
    drawn = draw_answer(image, answers, regions, title=title)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        drawn.save(target)
    except (OSError, ValueError) as error:
        raise InputError(f"{str(target)!r} cannot be written: {error}") from error
