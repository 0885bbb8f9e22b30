"""What the readers share: layouts that are named file by file, boxes put on their picture, sizes of pictures."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from openferret.checks import shorten
from openferret.data.files.regular import is_regular
from openferret.data.problems import Problems
from openferret.data.schema import PictureReference
from openferret.decoding import MAX_PIXELS, upright_size
from openferret.errors import InputError
from openferret.eval.files import sound_unicode
from openferret.regions import Box

Json: TypeAlias = dict[str, Any]

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_MOST_DIGITS = 18  # of an id
_MOST_BITS = 1000  # of an id; Python does not even write much longer numbers
_EXACT = 2**53  # above it a float is no exact whole number
_LONGEST_ID = 200
_OVERHANG = 2.0  # pixels beyond the edge that published boxes often have; they are clipped without a word
_PHOTO = re.compile(r"/(\d{6,12})_[0-9a-f]+(?:_o|_z)?\.jpg$")


def missing_files(title: str, root: Path, missing: Mapping[str, str]) -> InputError:
    """The error for a folder that is not laid out as its source is published.

    Args:
        title: of the source.
        root: the folder.
        missing: each file or folder that is not there, and what it holds.
    """
    listed = "; ".join(f"{file} ({what})" for file, what in missing.items())
    state = "" if root.exists() else " (there is no such folder)"
    return InputError(f"{root}{state} is not laid out as {title}: missing are {listed}")


def require_files(title: str, root: Path, expected: Mapping[str, str]) -> None:
    """Checks a layout; `expected` is each path below `root` and what it holds. InputError names what is missing."""
    missing = {file: what for file, what in expected.items() if not (root / file).exists()}
    if missing:
        raise missing_files(title, root, missing)


def find_file(root: Path, patterns: Sequence[str]) -> Path | None:
    """The first file that a pattern finds below a folder, in the order of patterns; None without one."""
    for pattern in patterns:
        for file in sorted(root.glob(pattern)):
            if file.is_file():
                return file
    return None


def place_box(
    corners: Iterable[Any], picture: PictureReference, place: str, problems: Problems
) -> Box | None:
    """A box of an annotation, on its picture.

    Args:
        corners: x1, y1, x2, y2 in pixels, as the file has them.
        picture: of known size.
        place: the file and the record, for problems.
        problems: is told what is wrong with the box.

    Returns:
        The box, clipped to the picture; None if it is none, has no area, is inverted or lies outside.
    """
    try:
        x1, y1, x2, y2 = (float(value) for value in corners)
    except (TypeError, ValueError, OverflowError):
        problems.add("malformed box", place, "a box must be four numbers")
        return None
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        problems.add("malformed box", place, "a box must be four finite numbers")
        return None
    shown = f"[{x1:g}, {y1:g}, {x2:g}, {y2:g}]"
    if x2 < x1 or y2 < y1:
        problems.add("inverted box", place, f"the box {shown} has its corners in the wrong order")
        return None
    if x2 == x1 or y2 == y1:
        problems.add("empty box", place, f"the box {shown} has no area")
        return None
    width, height = picture.width, picture.height
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        problems.add("box outside the picture", place, f"the box {shown} lies outside {width} x {height}")
        return None
    if max(-x1, -y1, x2 - width, y2 - height) > _OVERHANG:
        problems.add("box beyond the edge", place, f"the box {shown} is clipped to {width} x {height}")
    return Box(max(x1, 0), max(y1, 0), min(x2, width), min(y2, height))


def corners_of(box: Any) -> Iterator[Any]:
    """x1, y1, x2, y2 of a box written as [x, y, width, height]; nothing of what is no such list."""
    if isinstance(box, list | tuple) and len(box) == 4 and all(isinstance(side, int | float) for side in box):
        x, y, width, height = box
        yield from (x, y, x + width, y + height)


def measured_picture(
    file: str, pictures: Path, source: str, key: str, problems: Problems, same_as: tuple[str, ...] = ()
) -> PictureReference | None:
    """A reference to a picture whose size only the picture itself tells; None, and a problem, if it cannot."""
    path = inside(pictures, file)
    try:
        if sound_unicode(file + key) != file + key:
            raise InputError(f"the name {shorten(repr(file))} is not Unicode: give the file another one")
        if path is None:
            raise InputError(f"{shorten(file)} leads out of the folder of pictures")
        if not is_regular(path):
            raise InputError(f"{shorten(path.name)} is missing")
        width, height = upright_size(path, path.name)
    except InputError as error:
        kind = "missing picture" if path is None or not is_regular(path) else "damaged picture"
        problems.add(kind, f"{source} picture {shorten(key)}", str(error))
        return None
    return PictureReference(file, width, height, source, key, same_as)


def inside(root: Path, file: str) -> Path | None:
    """A path below a folder; None if the name leads out of it."""
    if "\0" in file:
        return None
    path = root / file
    try:
        return path if path.resolve().is_relative_to(root.resolve()) else None
    except (OSError, RuntimeError):
        return None


def locate(file: str, pictures: Path | None) -> str:
    """The part of a published path that is there: all of it, its last two parts, or its name.

    Args:
        file: as the annotation has it.
        pictures: folder of pictures; without one the path is taken as it is.
    """
    parts = [part for part in file.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    whole = "/".join(parts)
    if pictures is not None:
        for candidate in (whole, "/".join(parts[-2:]), parts[-1] if parts else ""):
            if candidate and is_regular(pictures / candidate):
                return candidate
    return whole


def whole_id(value: Any) -> int | None:
    """A whole number, also one written as text or with a point, as 3.0; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value.bit_length() <= _MOST_BITS else None
    if isinstance(value, float):  # of a table in which an id was missing
        return int(value) if value.is_integer() and abs(value) < _EXACT else None
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS
    return int(value) if digits else None


def id_text(value: Any) -> str | None:
    """An id as text: a whole number, or words of one's own; None for anything else.

    >>> id_text(7), id_text("007"), id_text(7.0), id_text("img-7"), id_text(None)
    ('7', '7', '7', 'img-7', None)
    """
    number = whole_id(value)
    if number is not None:
        return str(number)
    words = clean(value)
    return words if 0 < len(words) <= _LONGEST_ID else None


def positive_size(item: Mapping[str, Any]) -> tuple[int, int] | None:
    """`width` and `height` of an entry in pixels; None if they are not whole numbers above 0."""
    width, height = item.get("width"), item.get("height")
    numbers = all(type(side) in (int, float) for side in (width, height))
    return usable_size(width, height) if numbers and not (width % 1 or height % 1) else None  # type: ignore[operator]


def usable_size(width: float | None, height: float | None) -> tuple[int, int] | None:
    """A picture's size in whole pixels; None if it is none, or of more pixels than a picture here may have.

    >>> usable_size(640.0, 480.0), usable_size(640, float("nan")), usable_size(10**6, 10**6)
    ((640, 480), None, None)
    """
    if width is None or height is None or not (1 <= width <= MAX_PIXELS and 1 <= height <= MAX_PIXELS):
        return None
    return (int(width), int(height)) if int(width) * int(height) <= MAX_PIXELS else None


def flickr_photo(url: Any) -> tuple[str, ...]:
    """The photo's number in a Flickr address, as `same_as` has it.

    >>> flickr_photo("http://farm4.staticflickr.com/3148/3176652494_ba19663418_z.jpg")
    ('flickr:3176652494',)
    """
    found = _PHOTO.search(url) if isinstance(url, str) else None
    return (f"flickr:{found[1]}",) if found else ()


def pack(item: Any) -> str | None:
    """An item as JSON text to be put away; None for one that is nested too deeply."""
    try:
        return json.dumps(item, separators=(",", ":"))
    except (RecursionError, TypeError, ValueError):
        return None


def clean(text: Any) -> str:
    """Words on one line, without half characters; "" for what is no text."""
    return sound_unicode(" ".join(text.split())) if isinstance(text, str) else ""


def path_text(value: Any) -> str:
    r"""A file's path as it is written, spaces of every kind within it kept; "" for what is no text.

    >>> path_text("my  cat.jpg\n"), path_text("9.41\u202fAM.png") == "9.41\u202fAM.png", path_text(None)
    ('my  cat.jpg', True, '')
    """
    return sound_unicode(value).strip(" \t\r\n") if isinstance(value, str) else ""


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Names in order, each once, without empty ones."""
    return tuple(dict.fromkeys(name for name in names if name))
