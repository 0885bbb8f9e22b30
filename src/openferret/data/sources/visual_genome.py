"""Visual Genome: objects, attributes, relationships, region descriptions, questions and answers.

Whole-list files as published (`image_data.json`, `objects.json`, `attributes.json`, `relationships.json`,
`region_descriptions.json`, `question_answers.json`), or files of one picture's entry each. Any of them may be
missing; sizes come from `image_data.json`, or else from the pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openferret.checks import shorten
from openferret.data.files.json_stream import first_character, stream_items
from openferret.data.files.regular import is_regular
from openferret.data.files.shelf import Shelf
from openferret.data.problems import Problems
from openferret.data.records import AnnotatedObject, QuestionAnswer, Record, RegionDescription, Relationship
from openferret.data.schema import PictureReference
from openferret.data.sources.reading import (
    Json,
    clean,
    distinct,
    locate,
    measured_picture,
    missing_files,
    pack,
    place_box,
    positive_size,
    whole_id,
)
from openferret.errors import InputError
from openferret.eval.files import read_json

LICENCE = "CC BY 4.0"
TITLE = "Visual Genome"

_FILES = {
    "objects": "objects",
    "attributes": "attributes",
    "relationships": "relationships",
    "region_descriptions": "regions",
    "question_answers": "qas",
}


def read(root: Path, problems: Problems, *, pictures: Path | None = None) -> Iterator[Record]:
    """Visual Genome's records, one a picture.

    Args:
        root: folder of the json files; files of one entry may have a number: `attributes2.json`.
        problems: is told of annotations that cannot be used.
        pictures: folder of the pictures, `VG_100K/1.jpg` or `1.jpg`.

    Raises:
        InputError: there is none of the files, or no way to know the pictures' sizes.
    """
    found = {kind: _files(root, kind) for kind in _FILES}
    sizes = root / "image_data.json"
    if not any(found.values()):
        listed = {f"{kind}.json": "one of these is needed" for kind in _FILES}
        raise missing_files(TITLE, root, listed | {"image_data.json": "sizes of the pictures"})
    if not sizes.is_file() and pictures is None:
        raise missing_files(
            TITLE, root, {"image_data.json": "sizes of the pictures; or name the folder of the pictures"}
        )
    with ExitStack() as stack:
        streams = {kind: stack.enter_context(_Stream(files, problems)) for kind, files in found.items()}
        if sizes.is_file():
            listed_pictures = _listed(sizes, pictures, problems)
        else:
            listed_pictures = _measured(streams, pictures or root, problems)
        seen: set[str] = set()
        for picture in listed_pictures:
            if picture.id in seen:
                problems.add("duplicate id", f"image_data.json picture {picture.id}", "its id stands twice")
                continue
            seen.add(picture.id)
            entries = {kind: stream.take(picture.id) for kind, stream in streams.items()}
            yield _Picture(picture, problems).record(entries)


def _files(root: Path, kind: str) -> list[Path]:
    # A further release of a file is no second part of it: objects_v1_2.json is read if it stands alone.
    exact, numbered = root / f"{kind}.json", sorted(root.glob(f"{kind}[0-9]*.json"))
    versions = sorted(root.glob(f"{kind}_v*.json"))
    return ([exact] if exact.is_file() else []) + numbered or versions[-1:]


class _Stream:
    """The entries of files of one kind by picture: read on as far as asked; what is passed over is put away."""

    def __init__(self, files: list[Path], problems: Problems) -> None:
        self._shelf = Shelf()
        self._coming = (entry for file in files for entry in _entries(file, problems))

    def take(self, key: str) -> Json | None:
        stored = self._shelf.take(key)
        if stored:
            entry: Json = json.loads(stored[0])
            return entry
        for found, entry in self._coming:
            if found == key:
                return entry
            text = pack(entry)
            if text is not None:
                self._shelf.put(found, text)
        return None

    def all_keys(self) -> list[str]:
        for found, entry in self._coming:
            text = pack(entry)
            if text is not None:
                self._shelf.put(found, text)
        return list(self._shelf)

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *raised: object) -> None:
        self._shelf.close()


def _entries(path: Path, problems: Problems) -> Iterator[tuple[str, Json]]:
    if first_character(path) == "[":
        items = stream_items(path, "item", problems)
    else:
        try:
            items = iter([read_json(path)])
        except InputError as error:
            problems.add("damaged file", path.name, str(error))
            return
    for number, item in enumerate(items):
        key = whole_id(item.get("image_id", item.get("id"))) if isinstance(item, dict) else None
        if key is None:
            problems.add("malformed entry", f"{path.name} entry {number}", "it names no picture")
        else:
            yield str(key), item


def _listed(path: Path, pictures: Path | None, problems: Problems) -> Iterator[PictureReference]:
    for item in stream_items(path, "item", problems):
        key = whole_id(item.get("image_id", item.get("id"))) if isinstance(item, dict) else None
        size = positive_size(item) if key is not None else None
        if key is None or size is None:
            problems.add("malformed picture", path.name, f"{shorten(repr(item))} has no id or no size")
            continue
        # The address ends in the picture's published place: VG_100K_2/1.jpg.
        file = "/".join(clean(item.get("url")).split("/")[-2:]) or f"{key}.jpg"
        others = {"coco": item.get("coco_id"), "flickr": item.get("flickr_id")}
        same_as = tuple(f"{name}:{whole_id(other)}" for name, other in others.items() if whole_id(other))
        yield PictureReference(locate(file, pictures), *size, "visual_genome", str(key), same_as)


def _measured(
    streams: Mapping[str, _Stream], pictures: Path, problems: Problems
) -> Iterator[PictureReference]:
    keys = {key for stream in streams.values() for key in stream.all_keys()}
    for key in sorted(keys, key=int):
        places = [f"{folder}{key}.jpg" for folder in ("", "VG_100K/", "VG_100K_2/")]
        file = next((place for place in places if is_regular(pictures / place)), places[0])
        picture = measured_picture(file, pictures, "visual_genome", key, problems)
        if picture is not None:
            yield picture


@dataclass
class _Picture:
    """What is known of one picture, merged from the files' entries by the objects' ids."""

    picture: PictureReference
    problems: Problems
    objects: list[AnnotatedObject] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def record(self, entries: Mapping[str, Json | None]) -> Record:
        for kind in ("attributes", "objects"):  # the first has all that the second has, where it is there
            for item in self._items(entries, kind):
                self._object(item, kind)
        relationships = [
            one for item in self._items(entries, "relationships") for one in self._relation(item)
        ]
        descriptions = [
            one for item in self._items(entries, "region_descriptions") for one in self._told(item)
        ]
        questions = [one for item in self._items(entries, "question_answers") for one in self._asked(item)]
        return Record(
            self.picture,
            LICENCE,
            tuple(self.objects),
            tuple(relationships),
            tuple(descriptions),
            questions=tuple(questions),
        )

    def _items(self, entries: Mapping[str, Json | None], kind: str) -> Iterator[Json]:
        entry = entries[kind]
        items = entry.get(_FILES[kind]) if entry is not None else []
        if not isinstance(items, list):
            self.problems.add("malformed entry", self._place(kind), f"it has no list `{_FILES[kind]}`")
            return
        for item in items:
            if isinstance(item, dict):
                yield item
            else:
                self.problems.add("malformed entry", self._place(kind), f"{shorten(repr(item))} is no object")

    def _place(self, kind: str) -> str:
        return f"{kind}.json picture {self.picture.id}"

    def _object(self, item: Any, kind: str) -> int | None:
        """The place of an object in the record; it is put there if it is new."""
        if not isinstance(item, dict):
            self.problems.add("malformed entry", self._place(kind), f"{shorten(repr(item))} is no object")
            return None
        key = str(item.get("object_id", ""))
        if key and key in self.places:
            return self.places[key]
        place = f"{self._place(kind)} object {shorten(key)}"
        told = _texts(item.get("names")) or _texts([item.get("name")])
        box = place_box(_corners(item), self.picture, place, self.problems)
        if not told:
            self.problems.add("object without a name", place, "it has no name")
        if box is None or not told:
            return None
        number = len(self.objects)
        attributes = _texts(item.get("attributes"))
        self.objects.append(
            AnnotatedObject(key, box, told, attributes, next(iter(_texts(item.get("synsets"))), ""))
        )
        if key:
            self.places[key] = number
        return number

    def _relation(self, item: Json) -> Iterator[Relationship]:
        subject = self._object(item.get("subject"), "relationships")
        thing = self._object(item.get("object"), "relationships")
        predicate = clean(item.get("predicate")).lower()
        if subject is None or thing is None:
            return
        if not predicate:
            key = shorten(item.get("relationship_id"))
            self.problems.add(
                "relationship without a predicate", self._place("relationships"), f"it is {key}"
            )
            return
        yield Relationship(subject, predicate, thing, str(item.get("relationship_id", "")))

    def _told(self, item: Json) -> Iterator[RegionDescription]:
        key = str(item.get("region_id", ""))
        place = f"{self._place('region_descriptions')} region {shorten(key)}"
        box = place_box(_corners(item, "width", "height"), self.picture, place, self.problems)
        words = clean(item.get("phrase"))
        if box is not None and words:
            yield RegionDescription(box, words, key)
        elif not words:
            self.problems.add("region without words", place, "it has no phrase")

    def _asked(self, item: Json) -> Iterator[QuestionAnswer]:
        question, answer = clean(item.get("question")), clean(item.get("answer"))
        if not question or not answer:
            key = shorten(item.get("qa_id"))
            self.problems.add("question without words", self._place("question_answers"), f"it is {key}")
            return
        of_question, of_answer = (self._named(item.get(kind)) for kind in ("q_objects", "a_objects"))
        yield QuestionAnswer(question, answer, of_question, of_answer, str(item.get("qa_id", "")))

    def _named(self, items: Any) -> tuple[int, ...]:
        """Places of the objects that a question or an answer names, by their ids."""
        listed = items if isinstance(items, list) else []
        keys = (str(item.get("object_id")) for item in listed if isinstance(item, dict))
        return tuple(dict.fromkeys(self.places[key] for key in keys if key in self.places))


def _corners(item: Json, width: str = "w", height: str = "h") -> Iterator[Any]:
    sides = [item.get(name) for name in ("x", "y", width, height)]
    if all(isinstance(side, int | float) for side in sides):
        x, y, across, down = sides
        yield from (x, y, x + across, y + down)  # type: ignore[operator]  # they are numbers


def _texts(values: Any) -> tuple[str, ...]:
    return distinct(clean(value) for value in values) if isinstance(values, list) else ()
