"""YOLO folders: `data.yaml` (or `classes.txt`), pictures in `images/`, boxes or outlines in `labels/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openferret.checks import shorten
from openferret.data.files.regular import is_regular, read_regular_text
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
    whole_id,
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
        split: which of `data.yaml`'s lists: a folder, a text file that lists pictures, or several of them.
        exhaustive: whether what is not annotated is not there.
        licence: of the annotation.

    Raises:
        InputError: files are missing, `data.yaml` names a folder outside, or a class that YAML reads as true or false.
    """
    about = _description(root, split)
    names = about.names
    vocabulary = Vocabulary(
        tuple(Category(number, name) for number, name in sorted(names.items())), exhaustive, exhaustive
    )
    home = pictures or root
    for file in _files(home, root, about.listed, split):
        relative = file.relative_to(home)
        picture = measured_picture(relative.as_posix(), home, "yolo", relative.as_posix(), problems)
        if picture is not None:
            label, lost = _label_file(root, relative), list[str]()
            objects: tuple[AnnotatedObject, ...] = ()
            if label.exists() or label.is_symlink():
                objects = tuple(_objects(label, picture, about, problems, lost))
            unsure = distinct(lost)
            yield Record(picture, licence, objects, vocabulary=vocabulary, not_exhaustive=unsure, split=split)


@dataclass(frozen=True)
class _Description:
    """What `data.yaml` says: names of classes, where a split's pictures are, whether lines end in keypoints."""

    names: Mapping[int, str]
    listed: tuple[str, ...] = ()
    keypoints: bool = False


def _description(root: Path, split: str) -> _Description:
    for file in ("data.yaml", "dataset.yaml", "data.yml"):
        if (root / file).is_file():
            content = read_yaml(root / file)
            given = content.get(split)
            listed = tuple(
                one for one in (given if isinstance(given, list) else [given]) if isinstance(one, str)
            )
            return _Description(_names(content.get("names"), root / file), listed, "kpt_shape" in content)
    for file in ("classes.txt", "obj.names"):
        if (root / file).is_file():
            return _Description(_names(read_regular_text(root / file).splitlines(), root / file))
    raise missing_files(TITLE, root, {"data.yaml or classes.txt": "names of the classes"})


def _names(given: Any, path: Path) -> dict[int, str]:
    pairs = (
        given.items() if isinstance(given, Mapping) else enumerate(given if isinstance(given, list) else [])
    )
    names: dict[int, str] = {}
    for key, name in pairs:
        number = whole_id(key)
        if isinstance(name, bool):
            raise InputError(
                f"{path} names a class yes, no, on, off, true or false, which YAML reads otherwise: quote it"
            )
        if number is not None and clean(str(name)):
            names[number] = clean(str(name))
    if not names:
        raise InputError(f"{path} names no classes: `names` should be a list, or numbers and names")
    return names


def _files(home: Path, root: Path, listed: Sequence[str], split: str) -> list[Path]:
    """Pictures of a split by name: of the folders and lists that `data.yaml` names, or of the usual folder."""
    named = [found for one in listed if (found := _found(home, root, one)) is not None]
    if not named:
        usual = (home / place for place in (f"images/{split}", f"{split}/images", "images"))
        named = [place for place in usual if place.is_dir()][:1]
    if not named:
        raise missing_files(TITLE, home, {f"images/{split}": "the pictures"})
    files: set[Path] = set()
    for place in named:
        if not place.resolve().is_relative_to(home.resolve() if place.is_dir() else root.resolve()):
            raise InputError(
                f"{root} names the pictures' folder {shorten(place)}, which lies outside of {home}"
            )
        if place.is_dir():
            files |= {file for file in place.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES}
        else:
            files |= set(_listed_pictures(place, home))
    return sorted(files)


def _found(home: Path, root: Path, listed: str) -> Path | None:
    """A folder of pictures, or a file that lists them; exports often write ../train/images for train/images."""
    ends = _ends(listed)
    if ends and ends[-1].lower().endswith(".txt"):
        places = [folder / end for end in ends for folder in (home, root)]
        return next((place for place in places if place.is_file()), None)
    # One word of many, as "images", is not enough to tell.
    return next((home / end for end in ends[: max(len(ends) - 1, 1)] if (home / end).is_dir()), None)


def _listed_pictures(file: Path, home: Path) -> Iterator[Path]:
    for line in map(str.strip, read_regular_text(file).splitlines()):
        if ends := _ends(line):
            yield home / next((end for end in ends if is_regular(home / end)), ends[0])


def _ends(path: str) -> list[str]:
    """A path and its ends, the longest first: one written on another machine begins elsewhere."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _label_file(root: Path, picture: Path) -> Path:
    """`images/train/1.jpg` has its labels in `labels/train/1.txt`; without a folder `images`, beside it."""
    parts = list(picture.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return root.joinpath(*parts).with_suffix(".txt")


def _objects(
    path: Path, picture: PictureReference, about: _Description, problems: Problems, lost: list[str]
) -> Iterator[AnnotatedObject]:
    """Things with boxes; `lost` gets the names of those that cannot be used: any at all if the file is damaged."""
    names = about.names
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
        if about.keypoints:
            numbers = numbers[:4]  # the box; the rest are not corners of an outline
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
