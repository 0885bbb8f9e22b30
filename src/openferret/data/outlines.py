"""Outlines of annotated things, small enough to keep a million of: run lengths and polygons, not arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from openferret.checks import finite_number, shorten, whole_number
from openferret.errors import InputError
from openferret.regions import Box, Mask, Point, Polygon, Region, Scribble

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RunLengths:
    """A mask as COCO's compressed run lengths; they are checked when it is decoded.

    Args:
        height: of the mask in pixels.
        width: of the mask in pixels.
        counts: COCO's text.

    Raises:
        InputError: a size below 1, or counts that are not text.

    >>> import numpy as np
    >>> RunLengths.of(np.eye(2, dtype=bool)).mask()
    Mask(2 x 2 pixels, 2 inside)
    """

    height: int
    width: int
    counts: str

    def __post_init__(self) -> None:
        whole_number(self.height, "a mask's height", at_least=1)
        whole_number(self.width, "a mask's width", at_least=1)
        if not isinstance(self.counts, str) or not self.counts:
            raise InputError("a mask's counts must be COCO's compressed text")

    def mask(self) -> Mask:
        """The mask itself; InputError for damaged counts or an empty mask."""
        from openferret.masks import decode_rle

        return Mask(decode_rle(self.to_dict()))

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> RunLengths:
        """Run lengths of a bool array [height, width] of at least one pixel."""
        from openferret.masks import encode_rle

        return cls.from_dict(encode_rle(mask))

    def to_dict(self) -> dict[str, Any]:
        """COCO's form, `{"size": [height, width], "counts": text}`."""
        return {"size": [self.height, self.width], "counts": self.counts}

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> RunLengths:
        """Reads COCO's form, compressed or not; InputError if it is neither.

        >>> RunLengths.from_dict({"size": [2, 2], "counts": [1, 2, 1]}).counts
        '121'
        """
        counts = form.get("counts") if isinstance(form, Mapping) else None
        if isinstance(counts, list):
            from openferret.masks import decode_rle

            return cls.of(decode_rle(form))
        if isinstance(counts, bytes):
            counts = counts.decode("ascii", "replace")
        try:
            height, width = form["size"]
        except (KeyError, TypeError, ValueError):
            raise InputError('a COCO RLE must be {"size": [height, width], "counts": ...}') from None
        return cls(height, width, counts)  # type: ignore[arg-type]  # checked on construction


@dataclass(frozen=True, slots=True)
class Polygons:
    """The outline of one thing as polygons in pixels: what lies in any of them. InputError if there is none."""

    parts: tuple[Polygon, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise InputError("an outline needs at least one polygon")


Outline: TypeAlias = RunLengths | Polygons


def outline_mask(outline: Outline, width: int, height: int) -> Mask:
    """What an outline covers of a picture of that size in pixels; InputError if nothing, or of another size.

    >>> outline_mask(Polygons((Polygon([(0, 0), (2, 0), (2, 2), (0, 2)]),)), 4, 3)
    Mask(4 x 3 pixels, 4 inside)
    """
    if isinstance(outline, RunLengths):
        if (outline.height, outline.width) != (height, width):
            size = f"{outline.width} x {outline.height}"
            raise InputError(f"a mask of {size} pixels is not of the picture's size, {width} x {height}")
        return outline.mask()
    import numpy as np

    from openferret.masks import clip_polygon, fill_polygon

    covered = np.zeros((height, width), dtype=bool)
    for polygon in outline.parts:
        clipped = clip_polygon(np.asarray(polygon.points).clip(-1e9, 1e9), width, height)
        if len(clipped) > 2:
            covered |= fill_polygon(clipped, width, height)
    return Mask(covered)


def outline_runs(outline: Outline, width: int, height: int) -> RunLengths:
    """An outline as run lengths of the picture's size in pixels; InputError as `outline_mask`."""
    if isinstance(outline, RunLengths) and (outline.height, outline.width) == (height, width):
        return outline
    return RunLengths.of(outline_mask(outline, width, height).array)


def region_to_dict(region: Region) -> dict[str, Any]:
    """The JSON form of a region in pixels; masks are run lengths.

    >>> region_to_dict(Box(1, 2, 3, 4))
    {'box': [1.0, 2.0, 3.0, 4.0]}
    """
    match region:
        case Box(x1, y1, x2, y2):
            return {"box": [x1, y1, x2, y2]}
        case Point(x, y):
            return {"point": [x, y]}
        case Scribble(points, width):
            form: dict[str, Any] = {"scribble": [list(point) for point in points]}
            return form if width is None else form | {"width": width}
        case Polygon(points):
            return {"polygon": [list(point) for point in points]}
        case Mask(array):
            return {"mask": RunLengths.of(array).to_dict()}


def region_from_dict(form: Mapping[str, Any]) -> Region:
    """Reads the JSON form of a region; InputError if it is none.

    >>> region_from_dict({"point": [1, 2]})
    Point(x=1.0, y=2.0)
    """
    if not isinstance(form, Mapping):
        raise InputError(f"a region must be an object, not {shorten(repr(form))}")
    for kind, read in _READ.items():
        if kind in form:
            return read(form)
    raise InputError(f"a region is one of {', '.join(_READ)}, not {shorten(repr(dict(form)))}")


def _read_box(form: Mapping[str, Any]) -> Box:
    return Box(*_numbers(form["box"], 4, "box"))


def _read_point(form: Mapping[str, Any]) -> Point:
    return Point(*_numbers(form["point"], 2, "point"))


def _read_scribble(form: Mapping[str, Any]) -> Scribble:
    return Scribble(form["scribble"], form.get("width"))


def _read_polygon(form: Mapping[str, Any]) -> Polygon:
    return Polygon(form["polygon"])


def _read_mask(form: Mapping[str, Any]) -> Mask:
    return RunLengths.from_dict(form["mask"]).mask()


_READ: Mapping[str, Callable[[Mapping[str, Any]], Region]] = {
    "box": _read_box,
    "point": _read_point,
    "scribble": _read_scribble,
    "polygon": _read_polygon,
    "mask": _read_mask,
}


def _numbers(values: Any, count: int, kind: str) -> list[float]:
    if not isinstance(values, list | tuple) or len(values) != count:
        raise InputError(f"a {kind} must be {count} numbers, not {shorten(repr(values))}")
    return [finite_number(value, f"a {kind}'s number") for value in values]
