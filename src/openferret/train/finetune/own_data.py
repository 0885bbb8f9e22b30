"""A person's boxes: which format it is, every picture opened once, and a table of what was found."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from openferret.checks import shorten
from openferret.data.files.json_stream import first_character
from openferret.data.problems import Problem, Problems
from openferret.data.records import AnnotatedObject, Record
from openferret.data.sources import read_source
from openferret.data.sources.reading import inside
from openferret.decoding import orientation
from openferret.errors import InputError
from openferret.eval.metrics.boxes import BoxNumbers, area
from openferret.images import load_image
from openferret.regions import Box

Format: TypeAlias = Literal["coco_json", "yolo", "label_studio"]
_TITLES: dict[Format, str] = {"coco_json": "COCO", "yolo": "YOLO", "label_studio": "Label Studio"}
_YAML = (".yaml", ".yml")
_NAMED = 5  # files in a message
# EXIF orientation -> a box in 0..1 of the picture as it is stored, as the upright one has it.
_TURNED: Mapping[int, Callable[[float, float, float, float], BoxNumbers]] = {
    5: lambda x1, y1, x2, y2: (y1, x1, y2, x2),
    6: lambda x1, y1, x2, y2: (1 - y2, x1, 1 - y1, x2),
    7: lambda x1, y1, x2, y2: (1 - y2, 1 - x2, 1 - y1, 1 - x1),
    8: lambda x1, y1, x2, y2: (y1, 1 - x2, y2, 1 - x1),
}
_KEPT = 100_000  # problems of a kind: missing and damaged pictures are counted and named by them
_KNOWN = "a COCO json, a YOLO folder (or its data.yaml), or a Label Studio json"


@dataclass(frozen=True)
class OwnPicture:
    """A picture with its boxes.

    Attributes:
        file: path below the folder of pictures.
        path: where it lies.
        width: of the upright picture in pixels.
        height: of the upright picture in pixels.
        boxes: by class, in 0..1.
        unsure: classes that are there, or may be, without a box that can be used: never taught as absent.
    """

    file: str
    path: Path
    width: int
    height: int
    boxes: Mapping[str, tuple[BoxNumbers, ...]]
    unsure: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ClassCount:
    """What was found of a class; `size` is the median share of the picture that a box covers, in percent."""

    name: str
    boxes: int
    pictures: int
    size: float


@dataclass(frozen=True)
class OwnData:
    """Everything that was found.

    Attributes:
        title: of the format.
        pictures: that can be used, with boxes or without.
        classes: every class that the data name, in their order.
        missing: pictures that are named and are not there.
        damaged: pictures that cannot be opened, and why.
        problems: annotations that could not be used.
    """

    title: str
    pictures: tuple[OwnPicture, ...]
    classes: tuple[str, ...]
    missing: tuple[str, ...]
    damaged: Mapping[str, str]
    problems: Problems

    def digest(self) -> str:
        """SHA-256 of what is learned: names and sizes of pictures, and their boxes."""
        told = [
            (one.file, one.width, one.height, sorted(one.boxes.items()), sorted(one.unsure))
            for one in self.pictures
        ]
        return hashlib.sha256(repr((self.classes, told)).encode("utf-8", "surrogatepass")).hexdigest()

    def counts(self) -> list[ClassCount]:
        """A line for each class, in their order."""
        lines = []
        for name in self.classes:
            sizes = [area(box) for one in self.pictures for box in one.boxes.get(name, ())]
            pictures = sum(name in one.boxes for one in self.pictures)
            lines.append(
                ClassCount(name, len(sizes), pictures, 100 * statistics.median(sizes) if sizes else 0.0)
            )
        return lines


def read_own_data(data: Path, images: Path) -> OwnData:
    """Reads annotations and opens every picture.

    Args:
        data: a COCO json, a YOLO folder or its data.yaml, or a Label Studio json.
        images: folder of the pictures.

    Raises:
        InputError: something does not exist, or is of no known format.
    """
    kind = find_format(data)
    if not images.is_dir():
        raise InputError(f"--images {images} is not a folder: give the one that holds the pictures")
    problems = Problems(kept=_KEPT)
    records = list(_records(kind, data, images, problems))
    classes: dict[str, None] = {}
    for record in records:
        named = [one.name for one in record.vocabulary.categories] if record.vocabulary else []
        classes |= dict.fromkeys(map(class_name, [*named, *(thing.name for thing in record.objects)]))
    missing, damaged, pictures = [], {}, []
    for record in _by_file(records):
        file = record.picture.file
        path = inside(images, file)
        if path is None or not path.is_file():
            missing.append(file)
            continue
        try:
            size = load_image(path).size
        except InputError as error:
            damaged[file] = str(error)
            continue
        boxes, stated = _boxes(record), (record.picture.width, record.picture.height)
        if record.picture.known_size and size != stated:
            done = "scaled"
            if stated == size[::-1] and (turn := _TURNED.get(orientation(path))):
                done = "turned with it, as it is stored lying on its side"
                boxes = {name: tuple(turn(*one) for one in some) for name, some in boxes.items()}
            said = f"the data say {stated[0]} x {stated[1]} pixels, it has {size[0]} x {size[1]}; boxes are {done}"
            problems.add("other size", file, said)
        pictures.append(OwnPicture(file, path, *size, boxes, _unsure(record)))
    missing += [one.message.removesuffix(" is missing") for one in problems if one.kind == "missing picture"]
    damaged |= {one.place: one.message for one in problems if one.kind == "damaged picture"}
    return OwnData(_TITLES[kind], tuple(pictures), tuple(classes), tuple(missing), damaged, problems)


def find_format(data: Path) -> Format:
    """Which format a file or folder is of.

    Raises:
        InputError: it does not exist, or is of no known format.
    """
    if not data.exists():
        raise InputError(f"--data {data} does not exist: give {_KNOWN}")
    if data.is_dir() or data.suffix.lower() in _YAML:
        return "yolo"
    first = first_character(data) if data.suffix.lower() == ".json" else ""
    if first == "[":
        return "label_studio"
    if first == "{":
        return "coco_json"
    raise InputError(f"--data {data} is of no format that is known here: give {_KNOWN}")


def check_own_data(data: OwnData, skip: bool = False) -> OwnData:
    """What can be learned from, or the reason why nothing can.

    Args:
        data: as it was read.
        skip: leave out classes without boxes and pictures that are missing or damaged, rather than stop.

    Returns:
        The data, without classes that have no boxes.

    Raises:
        InputError: there is nothing to learn from, or something is wrong and `skip` is False.
    """
    left_out = "put it right, or leave such out with --skip-bad"
    if not data.pictures and not data.missing and not data.damaged:
        raise InputError("the data name no picture: there is nothing to learn from")
    for what, names in (("are missing", data.missing), ("cannot be opened", tuple(data.damaged))):
        if names and (not skip or not data.pictures):
            total = len(data.pictures) + len(data.missing) + len(data.damaged)
            shown = ", ".join(map(shorten, names[:_NAMED])) + (", ..." if len(names) > _NAMED else "")
            raise InputError(f"{len(names)} of {total} pictures {what}: {shown}; {left_out}")
    counts = data.counts()
    if not any(one.boxes for one in counts):
        raise InputError("the data have no box that can be used: there is nothing to learn from")
    empty = [one.name for one in counts if not one.boxes]
    if empty and not skip:
        shown = ", ".join(map(repr, empty[:_NAMED])) + (", ..." if len(empty) > _NAMED else "")
        several = f"{len(empty)} classes have" if len(empty) > 1 else "a class has"
        raise InputError(f"{several} no boxes: {shown}; label some, or leave such out with --skip-bad")
    if sum(bool(one.boxes) for one in data.pictures) < 2:
        raise InputError(
            "boxes on at least two pictures are needed: one part is learned from, another is measured on"
        )
    kept = tuple(one.name for one in counts if one.boxes)
    return OwnData(data.title, data.pictures, kept, data.missing, data.damaged, data.problems)


def class_name(name: str) -> str:
    """A class as a person would say it: "Acme_Logo" -> "acme logo".

    >>> class_name("Traffic_Light")
    'traffic light'
    """
    return " ".join(name.replace("_", " ").split()).lower() or name


def _records(kind: Format, data: Path, images: Path, problems: Problems) -> Iterator[Record]:
    if kind != "yolo":
        yield from read_source(kind, data, problems, images)
        return
    root = data if data.is_dir() else data.parent
    seen: set[str] = set()
    told: set[Problem] = set()
    for split in ("train", "val", "valid", "test"):
        met = Problems(kept=_KEPT)
        try:
            found = list(read_source(kind, root, met, images, split=split))
        except InputError:
            if split == "train":
                raise
            continue
        for one in met:
            if one not in told:  # several splits may be the same folder
                told.add(one)
                problems.add(one.kind, one.place, one.message)
        for record in found:
            if record.picture.file not in seen:
                seen.add(record.picture.file)
                yield record


def _by_file(records: Iterable[Record]) -> Iterator[Record]:
    """One record a picture: what several say of the same is taken together."""
    found: dict[str, Record] = {}
    for one in records:
        before = found.get(one.picture.file)
        if before is not None:
            one = replace(
                before,
                objects=(*before.objects, *_on(one, before)),
                not_exhaustive=(*before.not_exhaustive, *one.not_exhaustive),
            )
        found[one.picture.file] = one
    yield from found.values()


def _boxes(record: Record) -> dict[str, tuple[BoxNumbers, ...]]:
    width, height = record.picture.width, record.picture.height
    found: dict[str, list[BoxNumbers]] = {}
    for thing in _single(record.objects):
        box = thing.box
        scaled = (box.x1 / width, box.y1 / height, box.x2 / width, box.y2 / height)
        if area(scaled):
            found.setdefault(class_name(thing.name), []).append(scaled)
    return {name: tuple(dict.fromkeys(boxes)) for name, boxes in found.items()}


def _on(record: Record, other: Record) -> Iterator[AnnotatedObject]:
    """Things of a record on the picture as another says it is large."""
    across, down = (
        getattr(other.picture, side) / getattr(record.picture, side) for side in ("width", "height")
    )
    for one in record.objects:
        box = one.box
        yield replace(one, box=Box(box.x1 * across, box.y1 * down, box.x2 * across, box.y2 * down))


def _unsure(record: Record) -> frozenset[str]:
    """Classes of crowds, of boxes that cannot be used, and further names of a box."""
    names = [*record.not_exhaustive]
    for one in record.objects:
        names += one.names if one.is_crowd else (*one.names[1:], *one.attributes)
    return frozenset(map(class_name, names))


def _single(objects: Sequence[AnnotatedObject]) -> Iterator[AnnotatedObject]:
    yield from (one for one in objects if not one.is_crowd)
