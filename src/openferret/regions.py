"""What a person points at: Point, Box, Scribble, Polygon or Mask, in pixels of the upright original picture.

x goes right, y goes down, both continuous: pixel `i` covers `i <= x < i + 1`, a box covers `x1 <= x < x2`.
A region may be made before its picture is known; `fit_region` puts it on one; the rest does so by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, get_args

from .checks import check_kind, finite_number, finite_pairs, shorten, split_numbers, split_pairs
from .errors import InputError
from .pixel_mask import Mask as Mask

if (
    TYPE_CHECKING
):  # NumPy and Pillow are imported where they are used: reading a command's options needs neither.
    from .masks import BoolArray

_POINT_RADIUS = (
    5 / 336
)  # of the shorter side: radius 5 in the 336 pixel input of Ferret (arXiv 2310.07704, section 3.1)
_FEW_PIXELS = 16  # of a side: a smaller picture may be pointed at to parts of a pixel


@dataclass(frozen=True)
class Point:
    """A place, in pixels; it covers a disc of `point_radius` round it. InputError if not two finite numbers.

    >>> Point(10, 20)
    Point(x=10.0, y=20.0)
    """

    x: float
    y: float

    def __post_init__(self) -> None:
        _store_numbers(self, "point", "x", "y")


@dataclass(frozen=True)
class Box:
    """A rectangle `x1 <= x < x2`, `y1 <= y < y2`, in pixels. InputError if not four finite numbers.

    Corners in the wrong order are kept; `fit_region` orders them.

    >>> Box(10, 20, 200, 220).x2
    200.0
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        _store_numbers(self, "box", "x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class Scribble:
    """A stroke through points (x, y), in pixels; one point is a dot.

    Args:
        points: (x, y) pairs or an array [N, 2], N >= 1; kept as a tuple.
        width: of the stroke in pixels; None for twice the `point_radius` of the picture.

    Raises:
        InputError: no points, points that are not two finite numbers, a width that is not above 0.

    >>> Scribble([(1, 2), (3, 4)]).points
    ((1.0, 2.0), (3.0, 4.0))
    """

    points: Sequence[tuple[float, float]]
    width: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", finite_pairs(self.points, "scribble", at_least=1))
        if self.width is not None:
            _store_numbers(self, "scribble", "width")
            if self.width <= 0:
                raise InputError(f"the scribble's width must be above 0 pixels, not {self.width:g}")


@dataclass(frozen=True)
class Polygon:
    """An outline, in pixels, filled by the even-odd rule.

    Args:
        points: (x, y) pairs or an array [N, 2], N >= 3; kept as a tuple; the last joins the first.

    Raises:
        InputError: fewer than three points, or points that are not two finite numbers.

    >>> len(Polygon([(0, 0), (9, 0), (9, 9)]).points)
    3
    """

    points: Sequence[tuple[float, float]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", finite_pairs(self.points, "polygon", at_least=3))


Region: TypeAlias = Point | Box | Scribble | Polygon | Mask


def point_radius(width: int, height: int) -> float:
    """Radius in pixels of the disc that a Point covers: 5/336 of the shorter side, at least 0.5.

    The reference takes a window of 11 x 11 pixels at any size; the paper says a circle of radius 5.

    >>> point_radius(672, 336)
    5.0
    """
    return max(0.5, _POINT_RADIUS * min(width, height))


def fit_region(region: Region, width: int, height: int) -> tuple[Region, list[str]]:
    """Puts a region on a picture: clipped to it, corners in order, without area -> a Point.

    Args:
        region: in pixels of the picture.
        width: of the picture in pixels.
        height: of the picture in pixels.

    Returns:
        The region, the same object if nothing had to change, and a sentence for each change. A scribble that
        leaves the picture runs along its border; a polygon is cut off at it.

    Raises:
        InputError: a mask of another size than the picture, or something that is no region.

    >>> fit_region(Point(-3, 5), 100, 80)
    (Point(x=0.0, y=5.0), ['the point reached outside the 100 x 80 picture and was moved to it'])
    """
    check_kind(region, "a region", *get_args(Region))
    match region:
        case Point(x, y):
            fitted = Point(_clamp(x, width), _clamp(y, height))
            if fitted == region:
                return region, []
            return fitted, [f"the point reached outside the {width} x {height} picture and was moved to it"]
        case Box():
            return _fit_box(region, width, height)
        case Scribble(points, stroke):
            inside = tuple((_clamp(x, width), _clamp(y, height)) for x, y in points)
            if inside == points:
                return region, []
            return Scribble(inside, stroke), [_outside("scribble", points, width, height)]
        case Polygon():
            return _fit_polygon(region, width, height)
        case Mask():
            if region.size != (width, height):
                size = f"{region.size[0]} x {region.size[1]}"
                raise InputError(
                    f"the mask is {size} pixels; it must be as large as the picture, {width} x {height}"
                )
            return region, []


def doubt_pixels(region: Region, width: int, height: int) -> list[str]:
    """A sentence if a region's numbers are all within 0..1, as those of whoever takes them for shares of the picture.

    Args:
        region: as it was given.
        width: of the picture in pixels; a picture of few is not doubted.
        height: of the picture in pixels.

    >>> doubt_pixels(Box(0.1, 0.2, 0.8, 0.9), 640, 480)
    ['the box lies within the first pixel of the 640 x 480 picture: coordinates are pixels, not 0..1']
    """
    meant = False
    values: tuple[float, ...]
    match region:
        case Point(x, y):
            values = (x, y)
            meant = x.is_integer() and y.is_integer()  # a corner of the picture
        case Box(x1, y1, x2, y2):
            values = (x1, y1, x2, y2)
        case Scribble(points) | Polygon(points):
            values = tuple(value for point in points for value in point)
        case _:
            return []
    if meant or min(width, height) < _FEW_PIXELS or not all(0 <= value <= 1 for value in values):
        return []
    kind = type(region).__name__.lower()
    return [
        f"the {kind} lies within the first pixel of the {width} x {height} picture: coordinates are pixels, not 0..1"
    ]


def region_bounds(region: Region, width: int, height: int) -> Box:
    """The smallest box, in pixels, round what a region covers of a picture (a Point covers a disc).

    >>> region_bounds(Polygon([(5, 5), (30, 8), (8, 200)]), 100, 80).y2
    80.0
    """
    fitted, _ = fit_region(region, width, height)
    if isinstance(fitted, Box):
        return fitted
    if isinstance(fitted, Mask):
        return Box(*fitted.bounds)
    points = ((fitted.x, fitted.y),) if isinstance(fitted, Point) else fitted.points
    reach = 0.0 if isinstance(fitted, Polygon) else _brush_radius(fitted, width, height)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, top = max(min(xs) - reach, 0), max(min(ys) - reach, 0)
    return Box(left, top, min(max(xs) + reach, width), min(max(ys) + reach, height))


def region_mask(region: Region, width: int, height: int, max_side: int = 1024) -> BoolArray:
    """What a region covers of a picture, as a mask that is never empty.

    A cell belongs to the region if its centre does; if no centre does, the cell at the region's middle.
    Unlike the reference, a Point is a disc and a box does not hold its last row and column.

    Args:
        region: in pixels of the picture; fitted to it first.
        width: of the picture in pixels.
        height: of the picture in pixels.
        max_side: longest side of the mask in cells.

    Returns:
        bool [h, w]: one cell a pixel, or for a larger picture the grid whose longer side is `max_side`.

    Raises:
        InputError: a mask of another size than the picture.

    >>> int(region_mask(Box(10, 10, 20, 30), 120, 80).sum())
    200
    """
    import numpy as np

    from . import masks

    fitted, _ = fit_region(region, width, height)
    scale = min(1.0, max_side / max(width, height))
    columns, rows = max(1, round(width * scale)), max(1, round(height * scale))
    across, down = columns / width, rows / height
    match fitted:
        case Mask():
            return fitted.shrunk(columns, rows)
        case Point(x, y):
            radius = point_radius(width, height)
            mask = masks.fill_ellipse(x * across, y * down, radius * across, radius * down, columns, rows)
        case Box(x1, y1, x2, y2):
            mask = masks.fill_box(x1 * across, y1 * down, x2 * across, y2 * down, columns, rows)
        case Scribble(points):
            radius = _brush_radius(fitted, width, height)
            line = np.asarray(points) * (across, down)
            mask = masks.fill_stroke(line, radius * across, radius * down, columns, rows)
        case Polygon(points):
            mask = masks.fill_polygon(np.asarray(points) * (across, down), columns, rows)
    if not mask.any():
        bounds = region_bounds(fitted, width, height)
        column = min(int((bounds.x1 + bounds.x2) / 2 * across), columns - 1)
        mask[min(int((bounds.y1 + bounds.y2) / 2 * down), rows - 1), column] = True
    return mask


def parse_point(text: str) -> Point:
    """Reads "x,y" in pixels; InputError if it is not two finite numbers.

    >>> parse_point("10, 20.5")
    Point(x=10.0, y=20.5)
    """
    return Point(*split_numbers(text, "point", "x,y"))


def parse_box(text: str) -> Box:
    """Reads "x1,y1,x2,y2" in pixels; InputError if it is not four finite numbers.

    >>> parse_box("10,20,200,220")
    Box(x1=10.0, y1=20.0, x2=200.0, y2=220.0)
    """
    return Box(*split_numbers(text, "box", "x1,y1,x2,y2"))


def parse_scribble(text: str) -> Scribble:
    """Reads "x,y x,y ..." in pixels; InputError if it is not pairs of finite numbers.

    >>> parse_scribble("1,2 3,4").points
    ((1.0, 2.0), (3.0, 4.0))
    """
    return Scribble(split_pairs(text, "scribble"))


def parse_polygon(text: str) -> Polygon:
    """Reads "x,y x,y x,y ..." in pixels; InputError if it is not three or more pairs of finite numbers.

    >>> len(parse_polygon("0,0 9,0 9,9").points)
    3
    """
    return Polygon(split_pairs(text, "polygon"))


def parse_region(text: str) -> Region:
    """Reads a kind and its numbers in pixels, as in "scribble 1,2 3,4"; InputError if they do not fit.

    >>> parse_region("box 10,20,200,220")
    Box(x1=10.0, y1=20.0, x2=200.0, y2=220.0)
    """
    kind, _, numbers = text.strip().partition(" ")
    parse = _PARSERS.get(kind.lower())
    if parse is None:
        raise InputError(
            f'"{shorten(text)}" is not a region; write "point x,y", "box x1,y1,x2,y2" or "scribble x,y x,y"'
        )
    return parse(numbers)


_PARSERS: Mapping[str, Callable[[str], Region]] = {
    "point": parse_point,
    "box": parse_box,
    "scribble": parse_scribble,
    "polygon": parse_polygon,
}


def _fit_box(box: Box, width: int, height: int) -> tuple[Region, list[str]]:
    notes = []
    ordered = Box(min(box.x1, box.x2), min(box.y1, box.y2), max(box.x1, box.x2), max(box.y1, box.y2))
    if ordered != box:
        notes.append("the box had its corners in the wrong order; they were swapped")
    x1, x2 = _clamp(ordered.x1, width), _clamp(ordered.x2, width)
    y1, y2 = _clamp(ordered.y1, height), _clamp(ordered.y2, height)
    fitted = Box(x1, y1, x2, y2)
    if fitted != ordered:
        corners = (ordered.x1, ordered.y1), (ordered.x2, ordered.y2)
        notes.append(_outside("box", corners, width, height))
    if x1 == x2 or y1 == y2:
        notes.append("the box has no area on the picture and was taken as a point")
        return Point((x1 + x2) / 2, (y1 + y2) / 2), notes
    return (fitted, notes) if notes else (box, [])


def _fit_polygon(polygon: Polygon, width: int, height: int) -> tuple[Region, list[str]]:
    import numpy as np

    from . import masks

    points = np.asarray(polygon.points)
    inside = points.clip(0, (width, height))
    notes = []
    if (inside != points).any():
        # Far vertices are brought near first, so that no product of theirs overflows.
        inside = masks.clip_polygon(points.clip(-1e9, 1e9), width, height)
        notes.append(_outside("polygon", polygon.points, width, height))
    extent = np.ptp(inside, axis=0) if len(inside) else np.zeros(2)
    if extent.all():
        return (Polygon(inside.tolist()) if notes else polygon), notes
    middle = (points.clip(0, (width, height)) if not len(inside) else inside).mean(axis=0)
    return Point(*middle), [*notes, "the polygon has no area on the picture and was taken as a point"]


def _brush_radius(region: Point | Scribble, width: int, height: int) -> float:
    if isinstance(region, Scribble) and region.width is not None:
        return region.width / 2
    return point_radius(width, height)


def _outside(kind: str, points: Sequence[tuple[float, float]], width: int, height: int) -> str:
    picture = f"the {width} x {height} picture"
    for places, size in zip(zip(*points, strict=True), (width, height), strict=True):
        if max(places) <= 0 or min(places) >= size:
            return f"the {kind} lies outside {picture}; the place on its edge nearest to it was taken instead"
    return f"the {kind} reached outside {picture} and was clipped"


def _clamp(value: float, size: int) -> float:
    return min(max(value, 0.0), float(size))


def _store_numbers(region: Point | Box | Scribble, kind: str, *names: str) -> None:
    for name in names:
        # The only way to set a field of a frozen dataclass while it is being made.
        object.__setattr__(region, name, finite_number(getattr(region, name), f"the {kind}'s {name}"))
