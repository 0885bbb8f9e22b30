"""A CSV of boxes: a line a box, with a header; the picture, four sides and a label, in columns of usual names."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from openferret.checks import shorten
from openferret.data.files.regular import check_regular
from openferret.data.files.shelf import Shelf
from openferret.data.problems import Problems
from openferret.data.records import AnnotatedObject, Record
from openferret.data.schema import PictureReference
from openferret.data.sources.reading import (
    clean,
    distinct,
    locate,
    measured_picture,
    place_box,
    usable_size,
    whole_id,
)
from openferret.errors import InputError

TITLE = "a CSV of boxes"

_COLUMNS = {
    "picture": ("picture", "image", "file", "filename", "file_name", "image_path", "path"),
    "label": ("label", "class", "name", "category", "phrase"),
    "x1": ("x1", "xmin", "left"),
    "y1": ("y1", "ymin", "top"),
    "x2": ("x2", "xmax", "right"),
    "y2": ("y2", "ymax", "bottom"),
    "x": ("x",),
    "y": ("y",),
    "w": ("w", "box_width"),
    "h": ("h", "box_height"),
    "width": ("width", "image_width"),
    "height": ("height", "image_height"),
    "attributes": ("attributes",),
}
_SPACES = ("pixels", "normalized")


def read(
    root: Path,
    problems: Problems,
    *,
    pictures: Path | None = None,
    space: str = "pixels",
    licence: str = "",
) -> Iterator[Record]:
    """Records, one a picture, in the order in which the file first names them.

    Columns: `picture`, `label`, then `x1,y1,x2,y2` or `x,y,w,h`; optionally `width,height` of the picture and
    `attributes` with semicolons between. `filename`, `class`, `xmin` and other usual names are known too.

    Args:
        root: the file, or a folder with one.
        problems: is told of lines that cannot be used.
        pictures: folder of the pictures; needed unless the file has their width and height.
        space: of the sides, "pixels" or "normalized" (0..1 of width and height).
        licence: of the annotation.

    Raises:
        InputError: no file, several, or one without the columns.
    """
    if space not in _SPACES:
        raise InputError(f"space must be one of {', '.join(_SPACES)}, not {shorten(repr(space))}")
    files = [root] if root.is_file() else sorted(root.glob("*.csv"))
    if len(files) != 1:
        raise InputError(
            f"{root} should be {TITLE}, or a folder with one; found: {', '.join(map(str, files)) or 'none'}"
        )
    names: dict[str, None] = {}
    with Shelf() as shelf:
        for number, row in _rows(files[0], problems):
            if row.get("picture"):
                names.setdefault(row["picture"])
                shelf.put(row["picture"], json.dumps([number, row]))
            else:
                problems.add("malformed line", f"{files[0].name} line {number}", "it names no picture")
        for name in names:
            rows = [(int(number), row) for number, row in map(json.loads, shelf.take(name))]
            picture = _picture(name, rows[0][1], pictures, f"{files[0].name} line {rows[0][0]}", problems)
            if picture is not None:
                boxes = [_object(row, n, picture, space, files[0].name, problems) for n, row in rows]
                objects = tuple(box for box in boxes if box is not None)
                labels = [
                    clean(row.get("label")) for (_, row), box in zip(rows, boxes, strict=True) if box is None
                ]
                yield Record(picture, licence, objects, not_exhaustive=distinct(labels))


def _rows(path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, str]]]:
    number = 1
    check_regular(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            columns = _find_columns(next(reader, []), path)
            for cells in reader:
                number = reader.line_num
                if cells:
                    yield number, {name: cells[at].strip() for name, at in columns.items() if at < len(cells)}
    except UnicodeDecodeError as error:
        problems.add(
            "damaged file", path.name, f"it is not UTF-8 text (byte {error.start}); the rest is not read"
        )
    except csv.Error as error:
        problems.add("damaged file", f"{path.name} line {number}", f"{error}; the rest is not read")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def _find_columns(header: list[str], path: Path) -> dict[str, int]:
    written = {name.strip().lower(): place for place, name in reversed(list(enumerate(header)))}
    found = {
        name: written[alias]
        for name, aliases in _COLUMNS.items()
        for alias in reversed(aliases)
        if alias in written
    }
    corners = all(side in found for side in ("x1", "y1", "x2", "y2"))
    sides = all(side in found for side in ("x", "y", "w", "h"))
    missing = [name for name in ("picture", "label") if name not in found]
    missing += [] if corners or sides else ["x1,y1,x2,y2 or x,y,w,h"]
    if missing:
        listed = shorten(", ".join(header)) or "none"
        raise InputError(f"{path} lacks the columns {' and '.join(missing)}; its first line has: {listed}")
    return found


def _picture(
    name: str, row: Mapping[str, str], pictures: Path | None, place: str, problems: Problems
) -> PictureReference | None:
    size = usable_size(whole_id(row.get("width")), whole_id(row.get("height")))
    if size is not None:
        return PictureReference(locate(name, pictures) or name, *size, "boxes_csv", name)
    if pictures is None:
        problems.add(
            "picture of unknown size", place, "give columns width and height, or the folder of the pictures"
        )
        return None
    return measured_picture(locate(name, pictures), pictures, "boxes_csv", name, problems)


def _object(
    row: Mapping[str, str],
    number: int,
    picture: PictureReference,
    space: str,
    file: str,
    problems: Problems,
) -> AnnotatedObject | None:
    place = f"{file} line {number}"
    label = clean(row.get("label"))
    if not label:
        problems.add("object without a name", place, "it has no label")
        return None
    named = ("x1", "y1", "x2", "y2") if "x1" in row else ("x", "y", "w", "h")
    try:
        sides = [float(row[side]) for side in named]
    except (KeyError, ValueError):
        problems.add("malformed box", place, f"{', '.join(named)} must be numbers")
        return None
    if named[0] == "x":
        sides = [sides[0], sides[1], sides[0] + sides[2], sides[1] + sides[3]]
    if space == "normalized":
        sides = [side * (picture.height if axis % 2 else picture.width) for axis, side in enumerate(sides)]
    box = place_box(sides, picture, place, problems)
    if box is None:
        return None
    attributes = distinct(clean(word) for word in row.get("attributes", "").split(";"))
    return AnnotatedObject(f"line {number}", box, (label,), attributes)
