"""Boxes as four numbers (x1, y1, x2, y2) of one space, any space: IoU does not depend on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

BoxNumbers: TypeAlias = tuple[float, float, float, float]
Size = Literal["small", "medium", "large"]


def area(box: Sequence[float]) -> float:
    """Width times height; 0 for a box whose corners are in the wrong order or that holds a NaN.

    >>> area((0, 0, 2, 3)), area((2, 0, 0, 3))
    (6.0, 0.0)
    """
    width, height = float(box[2] - box[0]), float(box[3] - box[1])
    return width * height if width > 0 and height > 0 else 0.0


def intersection_over_union(first: Sequence[float], second: Sequence[float]) -> float:
    """IoU of two boxes, continuous (no `+ 1` for pixels); 0 where a box has no area or holds a NaN.

    >>> intersection_over_union((0, 0, 1, 1), (0, 0, 1, 2))
    0.5
    """
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if not (width > 0 and height > 0):
        return 0.0
    overlap = float(width * height)
    union = area(first) + area(second) - overlap
    # A NaN corner may hide behind min and max; it is in no box's area.
    return overlap / union if area(first) and area(second) and union > 0 else 0.0


def hull(boxes: Iterable[Sequence[float]]) -> BoxNumbers:
    """The smallest box around all boxes, at least one (the MERGED-BOXES protocol of MDETR and Ferret).

    >>> hull([(0, 0, 1, 1), (2, 1, 3, 4)])
    (0, 0, 3, 4)
    """
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def best_overlap(candidates: Iterable[Sequence[float]], targets: Sequence[Sequence[float]]) -> float:
    """The largest IoU of any candidate with any target; 0 if there is none.

    >>> best_overlap([(0, 0, 1, 1), (0, 0, 2, 2)], [(0, 0, 2, 2)])
    1.0
    """
    return max(
        (intersection_over_union(one, target) for one in candidates for target in targets), default=0.0
    )


def size_class(box: Sequence[float]) -> Size:
    """Small, medium or large: below 5 %, below 25 % of the picture, or more; the box is in 0..1.

    >>> size_class((0, 0, 0.2, 0.2)), size_class((0, 0, 0.4, 0.4)), size_class((0, 0, 1, 1))
    ('small', 'medium', 'large')
    """
    share = area(box)
    return "small" if share < 0.05 else "medium" if share < 0.25 else "large"
