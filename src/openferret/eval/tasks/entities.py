"""Flickr30k Entities for evaluation: the reader that training uses, with every file checked first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from openferret.errors import InputError
from openferret.eval.files import check_xml, read_text
from openferret.eval.metrics.boxes import BoxNumbers
from openferret.flickr30k import MARKUP, Caption, EntityPhrase, read_annotation, read_caption

FIXED_BOX: BoxNumbers = (0.1, 0.1, 0.9, 0.9)


@dataclass(frozen=True)
class Target:
    """A phrase with boxes as it stands in a caption.

    Args:
        words: as written.
        hull: the smallest box round all boxes, 0..1.
        boxes: every box, 0..1.
        kinds: people, animals, ...; a few phrases have two.
    """

    words: str
    hull: BoxNumbers
    boxes: tuple[BoxNumbers, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Sentence:
    """A caption: its words, all phrases, and those that have boxes."""

    text: str
    phrases: tuple[EntityPhrase, ...]
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Picture:
    """A picture of the split, its captions, and width and height in pixels as it was annotated."""

    name: str
    sentences: tuple[Sentence, ...]
    size: tuple[float, float]


def read_names(split_file: Path) -> list[str]:
    """Picture names of a split, one a line; a name that stands twice counts once.

    Raises:
        InputError: the file cannot be read or is empty.
    """
    names = list(dict.fromkeys(read_text(split_file).split()))
    if not names:
        raise InputError(f"{split_file} names no pictures: one id a line is expected")
    return names


def read_pictures(root: Path, split_file: Path) -> list[Picture]:
    """The pictures of a split, in its order.

    Args:
        root: folder that holds `Annotations/` and `Sentences/`.
        split_file: as `val.txt`.

    Raises:
        InputError: a file is missing or malformed; it is named, with the line.
    """
    return [_read_picture(root, name) for name in read_names(split_file)]


def picture_files(images: Path, pictures: Sequence[Picture]) -> dict[str, Path]:
    """Where each picture is, under its name."""
    return {one.name: images / f"{one.name}.jpg" for one in pictures}


def _read_picture(root: Path, name: str) -> Picture:
    annotation, sentences = root / "Annotations" / f"{name}.xml", root / "Sentences" / f"{name}.txt"
    check_xml(annotation)
    try:
        size, boxes = read_annotation(annotation)
    except (ValueError, ZeroDivisionError):
        raise InputError(
            f"{annotation} is not a Flickr30k Entities annotation: size and boxes must be numbers"
        ) from None
    found = []
    for number, line in enumerate(read_text(sentences).splitlines(), 1):
        if line.strip():
            if line.count("[/EN#") != len(MARKUP.findall(line)):
                raise InputError(f"{sentences} line {number} has a phrase that is not [/EN#ID/TYPE words]")
            found.append(_read_sentence(line, read_caption(line, boxes)))
    return Picture(name, tuple(found), size)


def _read_sentence(line: str, caption: Caption) -> Sentence:
    targets = []
    for match, phrase in zip(MARKUP.finditer(line), caption.phrases, strict=True):
        if phrase.boxes:
            kinds = tuple(match.group(2).strip("/").split("/"))
            targets.append(Target(phrase.text, phrase.hull, phrase.boxes, kinds))
    return Sentence(caption.text, caption.phrases, tuple(targets))


def single_regions(picture: Picture) -> Iterator[tuple[BoxNumbers, tuple[str, ...]]]:
    """Boxes that are their entity's only one, and all that they are called, as often as they are."""
    called: dict[BoxNumbers, list[str]] = {}
    for sentence in picture.sentences:
        for target in sentence.targets:
            if len(target.boxes) == 1:
                called.setdefault(target.boxes[0], []).append(target.words)
    return ((box, tuple(words)) for box, words in called.items())
