"""What a model is asked about a picture, and what it said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

from openferret.answer import Answer
from openferret.eval.metrics.boxes import BoxNumbers
from openferret.regions import Box, Point, Region, Scribble

Verb = Literal["ask", "ground", "describe"]


@dataclass(frozen=True)
class Spot:
    """What is pointed at, in 0..1 of the picture, so that a picture may be stored at any size.

    Args:
        kind: point (x, y), box (x1, y1, x2, y2) or scribble (x, y, x, y, ...).
        numbers: as many as the kind needs.

    >>> Spot("box", (0, 0, 0.5, 1)).region(640, 480)
    Box(x1=0.0, y1=0.0, x2=320.0, y2=480.0)
    """

    kind: Literal["point", "box", "scribble"]
    numbers: tuple[float, ...]

    def region(self, width: int, height: int) -> Region:
        """In pixels of a picture of that size; InputError if the numbers do not make such a region."""
        pixels = [value * (height if index % 2 else width) for index, value in enumerate(self.numbers)]
        if self.kind == "scribble":
            return Scribble(tuple(zip(pixels[::2], pixels[1::2], strict=True)))
        return Point(*pixels) if self.kind == "point" else Box(*pixels)


@dataclass(frozen=True)
class Question:
    """One question about one picture.

    Args:
        id: unique in its task.
        picture: key of the picture in its task; intervals are drawn by it.
        verb: `ask` (text, where [0] means the first spot), `ground` (phrases) or `describe`.
        text: for `ask`; for `describe` words that the model may use or not.
        phrases: for `ground`.
        spots: what [0], [1], ... mean.
        merge: one box round all that a phrase names.
        forced: a box is wanted even if the model doubts that there is one.
        ranks: of `ground`: up to so many different boxes for each phrase can be used, best first, where a
            model has such a thing. An offer that changes no answer: it is not in the fingerprint.
    """

    id: str
    picture: str
    verb: Verb
    text: str = ""
    phrases: tuple[str, ...] = ()
    spots: tuple[Spot, ...] = ()
    merge: bool = False
    forced: bool = False
    ranks: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, without what is empty."""
        names = ("id", "picture", "verb", "text", "merge", "forced", "ranks")
        form: dict[str, Any] = {name: getattr(self, name) for name in names}
        form["phrases"] = list(self.phrases)
        form["spots"] = [{"kind": spot.kind, "numbers": list(spot.numbers)} for spot in self.spots]
        return {name: value for name, value in form.items() if value}

    @cached_property
    def fingerprint(self) -> str:
        """Twelve letters that change with anything of the question but its id and `ranks`."""
        content = {name: value for name, value in self.to_dict().items() if name not in ("id", "ranks")}
        return digest(content)[:12]


@dataclass(frozen=True)
class Reply:
    """What a model said, or why it said nothing.

    Args:
        answer: words and boxes; None for a failure.
        raw: the model's own words, where they are known.
        error: of a failure, one line.
        ranked: for each phrase of a `ground` question its boxes in 0..1, best first, of a model that ranks;
            the first is the answer's.
        dialect: how `raw` writes boxes.
    """

    answer: Answer | None
    raw: str | None = None
    error: str | None = None
    ranked: tuple[tuple[BoxNumbers, ...], ...] = ()
    dialect: str = "ferret"

    @property
    def ferret_words(self) -> str | None:
        """`raw` if it is written as the paper's models write: the official rules read nothing else."""
        return self.raw if self.dialect == "ferret" else None

    @property
    def text(self) -> str:
        """Words without boxes; empty for a failure."""
        return self.answer.text if self.answer else ""

    @property
    def boxes(self) -> list[BoxNumbers]:
        """All boxes in 0..1, in the order they were given."""
        mentions = self.answer.mentions if self.answer else ()
        return [box.normalized for mention in mentions for box in mention.boxes]

    @property
    def scores(self) -> list[float | None]:
        """Of all boxes, in their order."""
        mentions = self.answer.mentions if self.answer else ()
        return [box.score for mention in mentions for box in mention.boxes]


Replies: TypeAlias = Mapping[str, Reply]


def digest(content: Any) -> str:
    """SHA-256 of the JSON form of anything.

    >>> digest({"a": 1})[:8]
    'f9d86028'
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def questions_digest(questions: Sequence[Question]) -> str:
    """What is asked, in sixteen letters: two runs with the same may be compared.

    >>> questions_digest([]) == questions_digest([])
    True
    """
    return digest([(one.id, one.fingerprint) for one in questions])[:16]
