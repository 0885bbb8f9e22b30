"""What a detector saw on pictures whose captions do not say everything.

Captions name what people find worth saying: nobody writes of the chairs in the background. A detector of a fixed set of
classes, run once over the training pictures (`openferret.train.stages.run_detector`), says which of its classes are
there, where, and which are not. Its boxes are marked (`Named.detected`): they never name a box that a person has named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from openferret.coordinates import UnitBox
from openferret.errors import InputError
from openferret.eval.metrics.boxes import intersection_over_union
from openferret.flickr30k import NormalizedBox
from openferret.nouns import head_noun
from openferret.train.stages.pictures import Record, class_phrases

SURE = 0.12
"""Least score of a box that is taken to be there."""
PERHAPS = 0.05
"""A class whose best box scores less is taken to be absent; what lies between is asked for by nobody."""
_SAME = 0.5  # IoU from which a detected box is taken for one that a person has drawn
_EACH = 4  # boxes of a class at most: a crowd shall not displace what people said
_TRIES = 4


@dataclass(frozen=True)
class Detection:
    """A class, how sure the detector is (0..1), and a box (x1, y1, x2, y2) in 0..1."""

    name: str
    score: float
    box: UnitBox


def read_detections(path: Path) -> dict[str, tuple[Detection, ...]]:
    """What a detector saw, by picture; a picture it saw nothing on has no entry and is left alone.

    Args:
        path: JSON lines: `{"picture": "flickr30k:36979", "class": "chair", "score": 0.5, "box": [x1, y1, x2, y2]}`,
            boxes in 0..1.

    Raises:
        InputError: the file cannot be read, or a line is malformed; its number is told.
    """
    found: dict[str, list[Detection]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            item = json.loads(line)
            x1, y1, x2, y2 = (float(side) for side in item["box"])
            one = Detection(str(item["class"]), float(item["score"]), (x1, y1, x2, y2))
            picture = str(item["picture"])
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f'{path}, line {number}: expected {{"picture", "class", "score", "box": [x1, y1, x2, y2]}}'
            ) from error
        if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
            raise InputError(f"{path}, line {number}: a box needs 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1")
        found.setdefault(picture, []).append(one)
    return {picture: tuple(each) for picture, each in found.items()}


def with_detections(record: Record, found: Sequence[Detection], classes: Sequence[str]) -> Record:
    """A record that also knows what a detector saw.

    Args:
        record: of a picture with captions.
        found: on it.
        classes: all that the detector knows.

    Returns:
        The record; a detected box that lies on one that a person has drawn is that one.
    """
    said = list({box: None for one in record.named for box in one.boxes})
    sure: dict[str, dict[NormalizedBox, float]] = {}
    for one in sorted(found, key=lambda one: -one.score):
        boxes = sure.get(one.name, {})
        if one.score >= SURE and len(boxes) < _EACH:
            nearest = max(said, key=lambda box: intersection_over_union(box, one.box), default=one.box)
            box = nearest if intersection_over_union(nearest, one.box) >= _SAME else one.box
            sure.setdefault(one.name, boxes).setdefault(box, one.score)
    perhaps = {one.name for one in found if one.score >= PERHAPS}
    named = [
        replace(one, detected=min(scores[box] for box in one.boxes))
        for name, scores in sure.items()
        for one in class_phrases({name: list(scores)})
    ]
    heads = record.heads | {head_noun(name) for name in perhaps}
    people = record.people or "person" in perhaps
    absent = tuple(
        name
        for name in classes
        if name not in perhaps and head_noun(name) not in heads and not (name == "person" and people)
    )
    return replace(record, named=(*record.named, *named), heads=heads, people=people, absent=absent)


@dataclass(frozen=True)
class Companions:
    """Classes that are asked for in vain: those often seen beside what is there, and those often seen at all.

    Attributes:
        lists: the classes detected on each picture.
        places: the pictures that show each class, as places in `lists`.
    """

    lists: tuple[tuple[str, ...], ...]
    places: Mapping[str, tuple[int, ...]] = field(repr=False)

    @classmethod
    def of(cls, records: Sequence[Record]) -> Companions:
        """Of all records that know what a detector saw."""
        lists = tuple(
            names for one in {record.row: record for record in records}.values() if (names := _classes(one))
        )
        places: dict[str, list[int]] = {}
        for place, names in enumerate(lists):
            for name in names:
                places.setdefault(name, []).append(place)
        return cls(lists, {name: tuple(found) for name, found in places.items()})

    def absent(self, record: Record, generator: np.random.Generator) -> str | None:
        """A class with its article that is not on the picture; None if a few tries find none."""
        here = [name for name in _classes(record) if name in self.places]
        for _ in range(_TRIES if self.lists and record.absent else 0):
            among: Sequence[int] = range(len(self.lists))
            if here and generator.random() < 0.5:
                among = self.places[here[int(generator.integers(len(here)))]]
            names = self.lists[among[int(generator.integers(len(among)))]]
            name = names[int(generator.integers(len(names)))]
            if name.split(maxsplit=1)[1] in record.absent:
                return name
        return None


def _classes(record: Record) -> tuple[str, ...]:
    """Its detected classes, each with its article."""
    return tuple(dict.fromkeys(one.text for one in record.named if one.detected and len(one.boxes) == 1))
