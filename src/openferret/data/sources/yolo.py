"""YOLO folders: `data.yaml` (or `classes.txt`), pictures in `images/`, boxes or outlines in `labels/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from openferret.checks import shorten
from openferret.data.files.regular import read_regular_text
from openferret.data.files.yaml_file import read_yaml
from openferret.data.outlines import Polygons
from openferret.data.problems import Problems
from openferret.data.records import AnnotatedObject, Category, Record, Vocabulary
from openferret.data.schema import PictureReference
from openferret.data.sources.reading import (
    PICTURE_SUFFIXES,
    clean,
    distinct,
    measured_picture,
    missing_files,
    place_box,
)
from openferret.errors import InputError
from openferret.regions import Polygon

TITLE = "a YOLO folder"


def read(
    root: Path,
    problems: Problems,
    *,
    pictures: Path | None = None,
    split: str = "train",
    exhaustive: bool = False,
    licence: str = "",
) -> Iterator[Record]:
    """Records, one a picture, by name; a picture without a label file has no objects.

    Args:
        root: the folder of `data.yaml` or `classes.txt`.
        problems: is told of lines and pictures that cannot be used.
        pictures: not needed unless they lie elsewhere: the folder that `images/SPLIT` is in.
        split: which of `data.yaml`'s lists.
        exhaustive: whether what is not annotated is not there.
        licence: of the annotation.

    Raises:
        InputError: files are missing, or `data.yaml` names a folder outside.
    """
    names, listed = _description(root, split)
    vocabulary = Vocabulary(
        tuple(Category(number, name) for number, name in sorted(names.items())), exhaustive
    )
    home = pictures or root
    folder = next((home / place for place in _places(listed, split) if (home / place).is_dir()), None)
    if folder is None:
        raise missing_files(TITLE, home, {f"images/{split}": "the pictures"})
    if not folder.resolve().is_relative_to(home.resolve()):
        raise InputError(f"{root} names the pictures' folder {shorten(listed)}, which lies outside of {home}")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES)
    for file in files:
        relative = file.relative_to(home)
        picture = measured_picture(relative.as_posix(), home, "yolo", relative.as_posix(), problems)
        if picture is not None:
            label, lost = _label_file(root, relative), list[str]()
            objects: tuple[AnnotatedObject, ...] = ()
            if label.exists() or label.is_symlink():
                objects = tuple(_objects(label, picture, names, problems, lost))
            unsure = distinct(lost)
            yield Record(picture, licence, objects, vocabulary=vocabulary, not_exhaustive=unsure, split=split)


def _description(root: Path, split: str) -> tuple[dict[int, str], str]:
    for file in ("data.yaml", "dataset.yaml", "data.yml"):
        if (root / file).is_file():
            content = read_yaml(root / file)
            listed = content.get(split)
            return _names(content.get("names"), root / file), listed if isinstance(listed, str) else ""
    for file in ("classes.txt", "obj.names"):
        if (root / file).is_file():
            return _names(read_regular_text(root / file).splitlines(), root / file), ""
    raise missing_files(TITLE, root, {"data.yaml or classes.txt": "names of the classes"})


def _names(given: Any, path: Path) -> dict[int, str]:
    pairs = (
        given.items() if isinstance(given, Mapping) else enumerate(given if isinstance(given, list) else [])
    )
    names = {number: clean(str(name)) for number, name in pairs if isinstance(number, int)}
    names = {number: name for number, name in names.items() if name}
    if not names:
        raise InputError(f"{path} names no classes: `names` should be a list, or numbers and names")
    return names


def _places(listed: str, split: str) -> Iterator[str]:
    # Exports often write ../train/images where train/images is meant.
    inner = "/".join(part for part in listed.split("/") if part not in ("", ".", ".."))
    yield from (place for place in (inner, f"images/{split}", f"{split}/images", "images") if place)


def _label_file(root: Path, picture: Path) -> Path:
    """`images/train/1.jpg` has its labels in `labels/train/1.txt`; without a folder `images`, beside it."""
    parts = list(picture.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return root.joinpath(*parts).with_suffix(".txt")


def _objects(
    path: Path, picture: PictureReference, names: Mapping[int, str], problems: Problems, lost: list[str]
) -> Iterator[AnnotatedObject]:
    """Things with boxes; `lost` gets the names of those that cannot be used: any at all if the file is damaged."""
    try:
        lines = read_regular_text(path).splitlines()
    except InputError as error:
        problems.add("damaged file", path.name, str(error))
        lost += names.values()
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path.name} line {number}"
        try:
            first, *numbers = (float(word) for word in line.split())
        except ValueError:
            problems.add("malformed line", place, f'"{shorten(line)}" should be a class and numbers')
            continue
        if first not in names:
            problems.add("unknown category", place, f"class {first:g} has no name")
            continue
        sides = [value * (picture.height if odd % 2 else picture.width) for odd, value in enumerate(numbers)]
        outline = None
        if len(sides) == 4:
            x, y, width, height = sides
            corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        elif len(sides) >= 6 and not len(sides) % 2:
            corners = [min(sides[::2]), min(sides[1::2]), max(sides[::2]), max(sides[1::2])]
        else:
            problems.add(
                "malformed line", place, "after the class there should be 4 numbers, or 3 or more pairs"
            )
            lost.append(names[int(first)])
            continue
        box = place_box(corners, picture, place, problems)
        if box is None:
            lost.append(names[int(first)])
            continue
        if len(sides) > 4:
            outline = Polygons((Polygon(list(zip(sides[::2], sides[1::2], strict=True))),))
        yield AnnotatedObject(f"{picture.id}:{number}", box, (names[int(first)],), outline=outline)
