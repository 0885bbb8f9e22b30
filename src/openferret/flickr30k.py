"""Flickr30k Entities: captions, phrases and their boxes, from the published Annotations and Sentences."""

from __future__ import annotations

import hashlib
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openferret.errors import InputError

NormalizedBox = tuple[float, float, float, float]
MARKUP = re.compile(r"\[/EN#(\d+)((?:/[a-z]+)+) ([^\]]*)\]")


@dataclass(frozen=True)
class EntityPhrase:
    """A phrase of a caption and what it names.

    Attributes:
        text: the words, as written.
        entity: the entity's number; the same in every caption of the picture.
        kind: people, clothing, bodyparts, animals, vehicles, instruments, scene or other.
        span: character span in the caption.
        boxes: every box of the entity, (x1, y1, x2, y2) in 0..1; empty when it has none.
    """

    text: str
    entity: str
    kind: str
    span: tuple[int, int]
    boxes: tuple[NormalizedBox, ...]

    @property
    def hull(self) -> NormalizedBox:
        """The smallest box around all boxes (the MERGED-BOXES protocol)."""
        return (
            min(box[0] for box in self.boxes),
            min(box[1] for box in self.boxes),
            max(box[2] for box in self.boxes),
            max(box[3] for box in self.boxes),
        )


@dataclass(frozen=True)
class Caption:
    """A sentence without its markup, and its phrases in order."""

    text: str
    phrases: tuple[EntityPhrase, ...]


@dataclass(frozen=True)
class EntitiesPicture:
    """A picture with its five captions."""

    name: str
    captions: tuple[Caption, ...]


def read_boxes(path: Path) -> dict[str, tuple[NormalizedBox, ...]]:
    """Boxes by entity number from one XML file, divided by the file's own picture size.

    Raises:
        InputError: the file is not an annotation of Flickr30k Entities.
    """
    return read_annotation(path)[1]


def read_annotation(path: Path) -> tuple[tuple[float, float], dict[str, tuple[NormalizedBox, ...]]]:
    """Width and height of the annotated picture in pixels, and what `read_boxes` gives.

    Raises:
        InputError: the file is not an annotation of Flickr30k Entities.
    """
    boxes: dict[str, list[NormalizedBox]] = {}
    try:
        root = ElementTree.parse(path).getroot()
        width = float(root.findtext("size/width", ""))
        height = float(root.findtext("size/height", ""))
        if not (1 <= width < math.inf and 1 <= height < math.inf):
            raise ValueError("a picture has at least one pixel")
        for item in root.iter("object"):
            if (bounds := item.find("bndbox")) is None:
                continue
            sides = [float(bounds.findtext(side, "")) for side in ("xmin", "ymin", "xmax", "ymax")]
            x1, y1, x2, y2 = sides[0] / width, sides[1] / height, sides[2] / width, sides[3] / height
            box = (max(x1, 0.0), max(y1, 0.0), min(x2, 1.0), min(y2, 1.0))
            if box[2] > box[0] and box[3] > box[1]:
                for name in item.iter("name"):
                    boxes.setdefault(name.text or "", []).append(box)
    except (ElementTree.ParseError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"{path.name} is not a Flickr30k Entities annotation (XML with a size and boxes in numbers)."
        ) from error
    return (width, height), {entity: tuple(found) for entity, found in boxes.items()}


def read_caption(line: str, boxes: dict[str, tuple[NormalizedBox, ...]]) -> Caption:
    """One line of a Sentences file.

    Example:
        >>> read_caption("[/EN#1/people A child] runs .", {}).phrases[0].text
        'A child'
    """
    text, phrases, end = "", [], 0
    for match in MARKUP.finditer(line):
        text += line[end : match.start()]
        start = len(text)
        entity, kind, words = match.group(1), match.group(2).split("/")[1], match.group(3)
        text += words
        phrases.append(EntityPhrase(words, entity, kind, (start, len(text)), boxes.get(entity, ())))
        end = match.end()
    return Caption((text + line[end:]).strip(), tuple(phrases))


def read_entities(root: Path, names: list[str]) -> Iterator[EntitiesPicture]:
    """Pictures of a split.

    Args:
        root: folder holding `Annotations/` and `Sentences/`.
        names: picture ids, as in `train.txt`.

    Raises:
        InputError: a file of a picture is missing or malformed.
    """
    for name in names:
        sentences = root / "Sentences" / f"{name}.txt"
        annotation = root / "Annotations" / f"{name}.xml"
        if not sentences.is_file() or not annotation.is_file():
            raise InputError(f"{root} has no Annotations/{name}.xml with Sentences/{name}.txt.")
        boxes = read_boxes(annotation)
        lines = sentences.read_text(encoding="utf-8").splitlines()
        yield EntitiesPicture(name, tuple(read_caption(line, boxes) for line in lines if line.strip()))


def development_names(names: list[str], count: int = 300) -> set[str]:
    """The train pictures kept back to choose by: the first by SHA-256 of their id."""
    return set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:count])
