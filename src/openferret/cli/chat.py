"""A conversation about one picture, line by line from stdin."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import typer

from openferret.cli import output, session
from openferret.cli.inputs import check_references, references
from openferret.cli.options import Settings
from openferret.cli.results import open_results
from openferret.cli.terminal import printable
from openferret.errors import InputError
from openferret.images import load_image
from openferret.regions import Region, fit_region, parse_region

_TYPED_REGION = re.compile(r"\[\s*((?:point|box|scribble|polygon)\b[^\[\]]*)\]", re.IGNORECASE)


@dataclass
class Pointer:
    """The regions of a conversation, numbered in the order typed."""

    width: int
    height: int
    regions: list[Region] = field(default_factory=list)

    def read(self, line: str) -> tuple[str, list[str]]:
        """Take the regions out of a line.

        Returns:
            The line with `[0]`, `[1]`, ... in place of what was typed, and warnings.

        Raises:
            InputError: A region that cannot be read or used, or a number that no region has. Nothing is kept.
        """
        found = [parse_region(text) for text in _TYPED_REGION.findall(line)]
        warnings = [warning for region in found for warning in fit_region(region, self.width, self.height)[1]]
        numbers = iter(range(len(self.regions), len(self.regions) + len(found)))
        text = _TYPED_REGION.sub(lambda _: f"[{next(numbers)}]", line)
        check_references(text, len(self.regions) + len(found), "point first, such as [box 10,20,200,220]")
        self.regions += found
        return text, warnings

    def mentioned(self, text: str) -> tuple[str, list[Region]]:
        """The text with its regions numbered anew from [0] in order of mention, and these regions."""
        order = list(dict.fromkeys(references(text)))
        own = re.sub(r"\[(\d+)\]", lambda match: f"[{order.index(int(match[1]))}]", text)
        return own, [self.regions[number] for number in order]


def run(picture: str, settings: Settings) -> None:
    """Answer every line about a picture until 'quit' or the end of input.

    A line that cannot be used is reported and the conversation goes on; if nobody is at the keyboard, the
    exit status is then 3.
    """
    session.check_settings(settings)
    path = Path(picture)
    image = load_image(path)
    drawing = output.plan_drawings(settings.draw, [path], batch=False)[0]
    failed = 0
    with open_results(settings.out) as results:
        pointer = Pointer(*image.size)
        chat = session.load_model(settings).encode(image).chat()
        length = {} if settings.max_new_tokens is None else {"max_new_tokens": settings.max_new_tokens}
        for line in _lines():
            try:
                text, warnings = pointer.read(line)
                question, regions = pointer.mentioned(text)
                answer = chat.say(question, regions, **length)
                output.print_warnings([*warnings, *answer.warnings])
                if settings.json:
                    output.print_json([answer])
                else:
                    output.print_answers([answer])
                if settings.out is not None:
                    request = {"verb": "chat", "say": line, **settings.identity()}
                    results.write(str(path), request, answer.to_dict())
                if drawing is not None:
                    output.save_drawing(drawing, image, [answer], regions, question)
            except InputError as error:
                failed += 1
                print(f"error: {printable(str(error))}", file=sys.stderr)
    if failed and not sys.stdin.isatty():
        raise typer.Exit(3)


def _lines() -> Iterator[str]:
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            return
        except UnicodeDecodeError as error:
            raise InputError("the input is not UTF-8 text") from error
        if line.lower() in ("quit", "exit"):
            return
        if line:
            yield line
