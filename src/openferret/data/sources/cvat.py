"""CVAT: "CVAT for images" XML, its boxes, polygons, ellipses and masks; attributes with words are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from openferret.checks import shorten
from openferret.data.files.xml_files import stream_xml
from openferret.data.outlines import Outline, Polygons, RunLengths
from openferret.data.problems import Problems
from openferret.data.records import AnnotatedObject, Record
from openferret.data.schema import PictureReference
from openferret.data.sources.reading import clean, distinct, locate, path_text, place_box, usable_size
from openferret.decoding import check_size
from openferret.errors import InputError
from openferret.regions import Polygon

TITLE = "a CVAT for images XML"
_SHAPES = ("box", "polygon", "ellipse", "mask")
_NO_WORDS = {"true", "false", "none", "null", "n/a", "__undefined__"}


def read(
    root: Path, problems: Problems, *, pictures: Path | None = None, licence: str = ""
) -> Iterator[Record]:
    """Records, one a picture of the file.

    Args:
        root: `annotations.xml`, or a folder with it.
        problems: is told of shapes that cannot be used: points, polylines and cuboids among them.
        pictures: folder of the pictures; sizes are the file's.
        licence: of the annotation.

    Raises:
        InputError: no file, or one that is not XML of this kind.
    """
    path = root if root.is_file() else root / "annotations.xml"
    if not path.is_file():
        raise InputError(f"{root} should be {TITLE}, or a folder with annotations.xml")
    seen: set[str] = set()
    try:
        for number, element in enumerate(stream_xml(path, "image")):
            place = f"{path.name} picture {shorten(element.get('id', number))}"
            picture = _picture(element, number, pictures)
            if picture is None:
                problems.add("malformed picture", place, "it has no name or no size")
            elif picture.id in seen:
                problems.add("duplicate id", place, "its id stands twice")
            else:
                seen.add(picture.id)
                lost: list[str] = []
                objects = tuple(_objects(element, picture, place, problems, lost))
                yield Record(picture, licence, objects, not_exhaustive=distinct(lost))
    except InputError as error:
        # What stood before the damage has been given.
        if not seen or problems.strict:
            raise
        problems.add("damaged file", path.name, str(error))
        return
    if not seen and not problems.counts:
        raise InputError(f"{path} is not {TITLE}: it has no <image> with a name and a size")


def _picture(element: Any, number: int, pictures: Path | None) -> PictureReference | None:
    size = usable_size(_number(element.get("width")), _number(element.get("height")))
    name = locate(path_text(element.get("name")), pictures)
    return PictureReference(name, *size, "cvat", str(element.get("id", number))) if name and size else None


def _objects(
    element: Any, picture: PictureReference, place: str, problems: Problems, lost: list[str]
) -> Iterator[AnnotatedObject]:
    """Things with boxes; `lost` gets the names of those that cannot be used."""
    for number, shape in enumerate(element):
        where = f"{place} shape {number}"
        if shape.tag not in _SHAPES:
            if shape.tag != "tag":
                problems.add("unsupported shape", where, f"{shorten(shape.tag)} is not read")
                lost.append(clean(shape.get("label")))
            continue
        name = clean(shape.get("label"))
        if not name:
            problems.add("object without a name", where, "it has no label")
            continue
        try:
            corners, outline = _shape(shape, picture)
        except (InputError, TypeError, ValueError) as error:
            problems.add("malformed shape", where, f"its {shape.tag} cannot be used: {shorten(error, 120)}")
            lost.append(name)
            continue
        box = place_box(corners, picture, where, problems)
        if box is None:
            lost.append(name)
        else:
            told = (clean(one.text) for one in shape.iter("attribute"))
            words = distinct(
                text for text in told if any(map(str.isalpha, text)) and text.lower() not in _NO_WORDS
            )
            yield AnnotatedObject(f"{picture.id}:{number}", box, (name,), words, outline=outline)


def _shape(shape: Any, picture: PictureReference) -> tuple[list[float], Outline | None]:
    if shape.tag == "box":
        return [float(shape.get(side)) for side in ("xtl", "ytl", "xbr", "ybr")], None
    if shape.tag == "ellipse":
        x, y, wide, high = (float(shape.get(side)) for side in ("cx", "cy", "rx", "ry"))
        return [x - wide, y - high, x + wide, y + high], None
    if shape.tag == "mask":
        return _mask(shape, picture)
    points = [tuple(float(side) for side in pair.split(",")) for pair in shape.get("points").split(";")]
    polygon = Polygon(points)  # type: ignore[arg-type]  # which checks that they are pairs
    xs, ys = zip(*polygon.points, strict=True)
    return [min(xs), min(ys), max(xs), max(ys)], Polygons((polygon,))


def _mask(shape: Any, picture: PictureReference) -> tuple[list[float], Outline]:
    """A mask within its box: runs along rows, beginning with background."""
    left, top, width, height = (int(shape.get(side)) for side in ("left", "top", "width", "height"))
    check_size(width, height, "the mask")
    check_size(picture.width, picture.height, "the picture")
    runs = np.array([int(run) for run in shape.get("rle").split(",")])
    # Each for itself first: a sum of large ones may wrap around to what is expected.
    if (runs < 0).any() or (runs > width * height).any() or runs.sum() != width * height:
        raise InputError(f"its runs must fill {width} x {height} pixels")
    part = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    if left < 0 or top < 0 or left + width > picture.width or top + height > picture.height:
        raise InputError("it reaches outside the picture")
    whole = np.zeros((picture.height, picture.width), dtype=bool)
    whole[top : top + height, left : left + width] = part
    if not part.any():
        raise InputError("it is empty")
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    corners = [left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1]
    return [float(side) for side in corners], RunLengths.of(whole)


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
