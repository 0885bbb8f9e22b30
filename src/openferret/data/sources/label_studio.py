"""Label Studio: a JSON export, its rectangles, ellipses, polygons and relations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from openferret.checks import shorten
from openferret.data.files.json_stream import first_character, stream_items
from openferret.data.files.regular import is_regular
from openferret.data.outlines import Outline, Polygons
from openferret.data.problems import Problems
from openferret.data.records import AnnotatedObject, Record, Relationship
from openferret.data.schema import PictureReference
from openferret.data.sources.reading import (
    Json,
    clean,
    distinct,
    locate,
    measured_picture,
    path_text,
    place_box,
    positive_size,
)
from openferret.errors import InputError
from openferret.regions import Polygon

TITLE = "a Label Studio export"
_LABELS = ("rectanglelabels", "ellipselabels", "polygonlabels")  # a result's type, and its labels' key
_SILENT = {"choices", "textarea", "rating", "labels", "rectangle", "polygon", "ellipse"}


def read(
    root: Path, problems: Problems, *, pictures: Path | None = None, licence: str = ""
) -> Iterator[Record]:
    """Records, one a task, of its first annotation that was not cancelled.

    Args:
        root: the exported json, or a folder with one.
        problems: is told of what cannot be used: brush masks and keypoints among it.
        pictures: folder of the pictures; without it, sizes are those that the results name.
        licence: of the annotation.

    Raises:
        InputError: no json, or several; or one that is no list of tasks.
    """
    files = [root] if root.is_file() else sorted(root.glob("*.json"))
    if len(files) != 1 or first_character(files[0]) != "[":
        found = ", ".join(file.name for file in files) or "none"
        raise InputError(f"{root} should be {TITLE}, a json with a list of tasks, found: {found}")
    for number, task in enumerate(stream_items(files[0], "item", problems)):
        place = (
            f"{files[0].name} task {shorten(task.get('id', number) if isinstance(task, dict) else number)}"
        )
        record = _read_task(task, place, pictures, licence, problems)
        if record is not None:
            yield record


def _read_task(
    task: Any, place: str, pictures: Path | None, licence: str, problems: Problems
) -> Record | None:
    data = task.get("data") if isinstance(task, dict) else None
    file = path_text(data.get("image")) if isinstance(data, dict) else ""
    if not file:
        problems.add("no picture", place, "its data has no `image`")
        return None
    results = _results(task)
    if results is None:
        problems.add("not annotated", place, "nobody annotated it, or it was skipped: it is left out")
        return None
    # Uploads are stored as /data/upload/PROJECT/NAME, local files as ...?d=PATH, which is quoted as in an address.
    path = file.split("?d=")[-1]
    name = locate(path, pictures)
    if pictures is None or not is_regular(pictures / name):
        name = locate(unquote(path), pictures) if "?d=" in file else name
    key = str(task.get("id", name))
    if pictures is not None:
        picture = measured_picture(name, pictures, "label_studio", key, problems)
    else:
        names = {"width": "original_width", "height": "original_height"}
        sizes = (positive_size({side: one.get(name) for side, name in names.items()}) for one in results)
        size = next(filter(None, sizes), None)
        picture = PictureReference(name, *size, "label_studio", key) if size else None
        if picture is None:
            problems.add("malformed picture", place, "no result tells its size; name the folder of pictures")
    if picture is None:
        return None
    objects: list[AnnotatedObject] = []
    places: dict[str, int] = {}
    lost: list[str] = []
    for result in results:
        found = _object(result, picture, place, problems)
        if found is not None:
            places[found.id] = len(objects)
            objects.append(found)
        else:
            lost += _labels(result)
    relations = [one for result in results for one in _relations(result, places)]
    return Record(picture, licence, tuple(objects), tuple(relations), not_exhaustive=distinct(lost))


def _results(task: Json) -> list[Json] | None:
    """What the first annotation says that was not cancelled; None if there is none."""
    annotations = task.get("annotations", task.get("completions"))
    for annotation in annotations if isinstance(annotations, list) else []:
        if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
            results = annotation.get("result")
            return [one for one in results if isinstance(one, dict)] if isinstance(results, list) else []
    return None


def _object(
    result: Json, picture: PictureReference, place: str, problems: Problems
) -> AnnotatedObject | None:
    kind, value = clean(result.get("type")), result.get("value")
    if kind == "relation" or kind in _SILENT:
        return None
    where = f"{place} result {shorten(result.get('id'))}"
    if kind not in _LABELS:
        problems.add("unsupported result", where, f"{shorten(kind) or 'nothing'} is not read")
        return None
    names = _labels(result)
    if not names:
        problems.add("object without a name", where, "it has no label")
        return None
    try:
        corners, outline = _shape(kind, value, picture)  # type: ignore[arg-type]  # a dict, as it has labels
    except (KeyError, TypeError, ValueError):
        problems.add("malformed box", where, f"its {kind} have no numbers")
        return None
    box = place_box(corners, picture, where, problems)
    if box is None:
        return None
    return AnnotatedObject(str(result.get("id", "")), box, names[:1], names[1:], outline=outline)


def _labels(result: Json) -> tuple[str, ...]:
    kind, value = clean(result.get("type")), result.get("value")
    labels = value.get(kind) if isinstance(value, dict) else None
    return distinct(map(clean, labels)) if isinstance(labels, list) and kind.endswith("labels") else ()


def _shape(kind: str, value: Json, picture: PictureReference) -> tuple[list[float], Outline | None]:
    """Corners in pixels, and an outline: Label Studio's numbers are percent of the picture."""
    across, down = picture.width / 100, picture.height / 100
    if kind == "polygonlabels":
        points = [(float(x) * across, float(y) * down) for x, y in value["points"]]
    elif kind == "ellipselabels":
        x, y, wide, high = (float(value[name]) for name in ("x", "y", "radiusX", "radiusY"))
        points = [((x - wide) * across, (y - high) * down), ((x + wide) * across, (y + high) * down)]
    else:
        points = _turned(value, across, down)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    outlined = kind == "polygonlabels" or (kind == "rectanglelabels" and bool(value.get("rotation")))
    outline = Polygons((Polygon(points),)) if outlined and len(points) > 2 else None
    return [min(xs), min(ys), max(xs), max(ys)], outline


def _turned(value: Json, across: float, down: float) -> list[tuple[float, float]]:
    """The corners of a rectangle, turned clockwise about its upper left one."""
    x, y, width, height = (float(value[name]) for name in ("x", "y", "width", "height"))
    if width <= 0 or height <= 0:
        raise ValueError("a rectangle has an area")
    angle = math.radians(float(value.get("rotation") or 0))
    sides = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)]
    cosine, sine = math.cos(angle), math.sin(angle)
    return [
        (
            x * across + a * across * cosine - b * down * sine,
            y * down + a * across * sine + b * down * cosine,
        )
        for a, b in sides
    ]


def _relations(result: Json, places: dict[str, int]) -> Iterator[Relationship]:
    if result.get("type") != "relation":
        return
    subject, thing = (places.get(str(result.get(name))) for name in ("from_id", "to_id"))
    labels = result.get("labels")
    if subject is None or thing is None or not isinstance(labels, list):
        return
    if result.get("direction") == "left":
        subject, thing = thing, subject
    for label in labels:
        if clean(label):
            yield Relationship(subject, clean(label), thing)
