"""Pictures labelled one by one: every picture read once, every name looked for, each answer written as it comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from openferret.answer import Answer
from openferret.checks import shorten
from openferret.cli.inputs import check_references
from openferret.cli.results import Results
from openferret.errors import InputError
from openferret.labelling.sources import Source, key_of, open_source, source_names
from openferret.phrases import without_determiner

if TYPE_CHECKING:
    from PIL import Image

    from openferret.predictor import Ferret

Outcome: TypeAlias = Answer | InputError
_MOST_NAMES = 1000
_LONGEST_NAME = 200  # characters


@dataclass(frozen=True)
class Labelling:
    """What is looked for, and everything else that the answers depend on.

    Args:
        names: of the classes, in the order of their numbers.
        threshold: probability 0..1 below which a name is said not to be in a picture, and a box is left out;
            None for the model's own, which is of the name only.
        settings: of the model, as they go into a results file: its name, the seed.
    """

    names: tuple[str, ...]
    threshold: float | None
    settings: Mapping[str, object]

    def request(self) -> dict[str, object]:
        """The request as it stands in every line of a results file."""
        asked = {"verb": "label", "names": list(self.names), "threshold": self.threshold, **self.settings}
        return {name: value for name, value in asked.items() if value is not None}


@dataclass(frozen=True)
class LabelledPicture:
    """A picture with what was found in it.

    Args:
        source: of the picture.
        name: of the picture in the exported files: its path below the folder that all pictures share.
        answer: a mention for each of the names, in order.
    """

    source: Source
    name: str
    answer: Answer

    @property
    def scores(self) -> list[float]:
        """Of all boxes that have one."""
        boxes = (box for mention in self.answer.mentions for box in mention.boxes)
        return [box.score for box in boxes if box.score is not None]


def parse_names(text: str) -> tuple[str, ...]:
    """Names of classes from a list with commas or line ends between them.

    Raises:
        InputError: no names, too many, or one that is too long, unprintable, a region, or there twice.

    >>> parse_names("cat, dog,traffic  light")
    ('cat', 'dog', 'traffic light')
    """
    names = [" ".join(part.split()) for part in text.replace("\n", ",").split(",")]
    names = [name for name in names if name]
    if not names:
        raise InputError('--names is empty: name what to look for, as in --names "cat,dog"')
    if len(names) > _MOST_NAMES:
        raise InputError(f"--names has {len(names)} names; at most {_MOST_NAMES} are looked for at once")
    taken: dict[str, str] = {}
    for name in names:
        if len(name) > _LONGEST_NAME or not name.isprintable():
            raise InputError(
                f"the name {shorten(name)!r} is too long or not printable: give a word or a short phrase"
            )
        check_references(name, 0, "labels are found by words")
        earlier = taken.setdefault(class_of(name), name)
        if earlier is not name:
            raise InputError(f"the names {shorten(earlier)!r} and {shorten(name)!r} are one class: keep one")
    return tuple(names)


def class_of(name: str) -> str:
    """The category that exported files would have for a name: without "a", "the", "two".

    >>> class_of("the Cup")
    'cup'
    """
    return without_determiner(name) or "object"


def label_pictures(
    pictures: Iterable[Source], labelling: Labelling, results: Results, load: Callable[[], Ferret]
) -> Iterator[tuple[Source, Outcome | None]]:
    """Label pictures, and write each answer before the next picture is begun.

    Args:
        pictures: what to label.
        labelling: what to look for.
        results: where answers are written; what is answered there already is passed over.
        load: opens the model, when the first picture needs it.

    Yields:
        Each picture with its answer, why it has none, or None where the results had it already.
    """
    request = labelling.request()
    ferret: Ferret | None = None
    for picture in pictures:
        key = key_of(picture)
        if results.has(key, request):
            yield picture, None
            continue
        try:
            image = open_source(picture)
            ferret = ferret or load()
            answer = look_for(ferret, image, labelling)
        except InputError as error:
            results.write(key, request, {"error": str(error)})
            yield picture, error
        else:
            results.write(key, request, answer.to_dict())
            yield picture, answer


def look_for(ferret: Ferret, image: Image.Image, labelling: Labelling) -> Answer:
    """A mention for each of the names, in order, with the boxes that are good enough."""
    answer = ferret.encode(image).ground(list(labelling.names), threshold=labelling.threshold)
    return _at_least(answer, labelling.threshold or 0.0)


def read_labelled(path: Path, pictures: Sequence[Source], labelling: Labelling) -> Iterator[LabelledPicture]:
    """The answers of a results file, in the order of the pictures; those that failed are left out.

    Raises:
        InputError: the file cannot be read, or is not what `label_pictures` writes.
    """
    request = labelling.request()
    found: dict[str, Answer] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                if record["request"] == request and "error" not in record:
                    found[record["file"]] = Answer.from_dict(record)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{shorten(path)!r} cannot be read: {shorten(error)}") from error
    for picture, name in source_names(pictures).items():
        answer = found.get(key_of(picture))
        if answer is not None:
            yield LabelledPicture(picture, name, answer)


def begun_differently(path: Path, labelling: Labelling) -> bool:
    """Whether a results file begins with the answer to another request."""
    try:
        with path.open(encoding="utf-8") as lines:
            first = lines.readline()
        return first.endswith("\n") and json.loads(first)["request"] != labelling.request()
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False  # opening it for the results says what is wrong with it


def _at_least(answer: Answer, score: float) -> Answer:
    """The answer without boxes of a lower score: that a name is there does not make each of its boxes good."""
    mentions = [
        replace(one, boxes=tuple(box for box in one.boxes if box.score is None or box.score >= score))
        for one in answer.mentions
    ]
    return replace(answer, mentions=tuple(mentions))
