"""Pictures that a model is measured on, kept out of what it is trained on: by id and by looks.

Ids are compared within one origin, `coco:42` with `coco:42`: picture 42 of Visual Genome is another picture. A
record may say what else its picture is (`PictureReference.same_as`), as Visual Genome does of COCO's. Looks are
compared across all origins (`openferret.eval.leaks.perceptual_hash`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openferret.data.building.near_hashes import NearHashes
from openferret.data.building.recipe import EvaluationSet, Leaks
from openferret.data.files.regular import check_regular, read_regular_text
from openferret.data.schema import PictureReference
from openferret.errors import InputError
from openferret.eval.files import parse_json, read_pickle
from openferret.eval.leaks import picture_id, read_pictures

_COCO_NAME = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d{12})\.\w+")
_HASH = re.compile(r"[0-9a-fA-F]{1,16}")
_FLICKR30K = "flickr30k"
_TEST_SPLITS = {"val", "test", "testA", "testB"}


@dataclass(frozen=True)
class LeakFilter:
    """What evaluation sets hold.

    Args:
        ids: `origin:id` -> the set it is of.
        hashes: uint64 [n], perceptual hashes of evaluation pictures.
        names: for each hash the set it is of.
        near: bits by which looks may differ.
    """

    ids: Mapping[str, str] = field(default_factory=dict)
    hashes: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    names: tuple[str, ...] = ()
    near: int = 4

    def find(self, picture: PictureReference, looks: int | None) -> tuple[str, str] | None:
        """The evaluation set that a picture is in, and how that is known: `id` or `looks`; None if it is in none.

        Args:
            picture: as its source names it.
            looks: its perceptual hash, if it is known.
        """
        for name in identities(picture):
            if name in self.ids:
                return self.ids[name], "id"
        place = None if looks is None else self._looks.nearest(looks)
        return None if place is None else (self.names[place], "looks")

    @cached_property
    def _looks(self) -> NearHashes:
        return NearHashes(self.hashes, self.near)


def identities(picture: PictureReference) -> list[str]:
    """What a picture is called, as `origin:id`: by its source, elsewhere, and by a file name of COCO's form.

    >>> identities(PictureReference("train2014/COCO_train2014_000000000042.jpg", 4, 3, "mine", "a"))
    ['mine:a', 'mine:42', 'coco:42']
    """
    found = [f"{picture.source}:{picture_id(picture.id)}"] if picture.id else []
    found.append(f"{picture.source}:{picture_id(picture.file)}")
    for other in picture.same_as:
        origin, _, name = other.partition(":")
        found.append(f"{origin}:{picture_id(name)}")
    match = _COCO_NAME.fullmatch(Path(picture.file).name)
    if match:
        found.append(f"coco:{int(match.group(1))}")
    return list(dict.fromkeys(found))


def read_filter(leaks: Leaks) -> LeakFilter:
    """Reads all evaluation sets of a recipe.

    Raises:
        InputError: a file or picture that cannot be read, or a file in which no picture is named.
    """
    ids: dict[str, str] = {}
    hashes: list[int] = []
    names: list[str] = []
    for one in leaks.sets:
        for file in one.names:
            for name in evaluation_names(file):
                _put(ids, one, picture_id(name))
        if one.pictures is not None:
            pictures = read_pictures(one.pictures)
            for name in pictures.names:
                _put(ids, one, picture_id(name))
            hashes += pictures.hashed.values()
            names += [one.name] * len(pictures.hashed)
        if one.hashes is not None:
            known = read_hashes(one.hashes)
            for name in known:
                _put(ids, one, name)
            hashes += known.values()
            names += [one.name] * len(known)
    return LeakFilter(ids, np.array(hashes, np.uint64), tuple(names), leaks.near)


def _put(ids: dict[str, str], one: EvaluationSet, name: str) -> None:
    ids.setdefault(f"{one.of}:{name}", one.name)
    if one.of == _FLICKR30K:  # its names are the photos' own numbers, which COCO's pictures may have too
        ids.setdefault(f"flickr:{name}", one.name)


def evaluation_names(path: Path) -> list[str]:
    """Names or ids of the pictures that a file of an evaluation set speaks of.

    Args:
        path: text (one a line); JSON or JSON lines whose objects have `image`, `file_name` or `image_id`, at
            the top or in a list `images` (COCO, LVIS, MDETR, POPE, Ferret-Bench); or RefCOCO's `refs(*).p`, of
            which the val and test splits are taken.

    Raises:
        InputError: it cannot be read, or no picture is named in it.
    """
    if path.suffix in {".p", ".pkl", ".pickle"}:
        check_regular(path)
        found = list(_ref_names(read_pickle(path), path))
    elif path.suffix in {".json", ".jsonl"}:
        found = list(_json_names(path))
    else:
        found = read_regular_text(path).split()
    if not found:
        raise InputError(f"{path} names no pictures; a list of an evaluation set was expected")
    return list(dict.fromkeys(found))


def _json_names(path: Path) -> Iterator[str]:
    text = read_regular_text(path)
    try:
        content = parse_json(text, str(path))
    except InputError:
        lines = text.split("\n")
        content = [parse_json(line, f"{path} line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    if isinstance(content, Mapping):
        content = content.get("images", [content])
    for entry in content if isinstance(content, list) else ():
        if isinstance(entry, str | int):
            yield str(entry)
        elif isinstance(entry, Mapping):
            yield from _entry_names(entry)


def _entry_names(entry: Mapping[str, Any]) -> Iterator[str]:
    # MDETR numbers its expressions in `id` and keeps the picture's own number in `original_id`.
    for key in ("image", "file_name", "coco_url", "original_id", "image_id", "id"):
        if isinstance(entry.get(key), str | int):
            yield str(entry[key]).rpartition("/")[2]
            return


def _ref_names(content: object, path: Path) -> Iterator[str]:
    if not isinstance(content, list):
        raise InputError(f"{path} is not a list of references, as refs(*).p is")
    for entry in content:
        if isinstance(entry, Mapping) and entry.get("split") in _TEST_SPLITS and "image_id" in entry:
            yield str(entry["image_id"])


def read_hashes(path: Path) -> dict[str, int]:
    """A file of perceptual hashes, `name<TAB>16 hexadecimal digits` a line -> hash by picture id.

    Raises:
        InputError: a line of another form; its number is named.
    """
    found = {}
    for number, line in enumerate(read_regular_text(path).split("\n"), 1):
        name, _, digits = line.strip().rpartition("\t")
        if name and _HASH.fullmatch(digits):
            found[picture_id(name)] = int(digits, 16)
        elif line.strip():
            raise InputError(f"{path} line {number} is not `name<TAB>16 hexadecimal digits`")
    return found
