"""Coordinates change space here and nowhere else: pixels <-> 0..1 <-> bins 0..999 <-> text or tokens.

Pixels are those of the upright original picture, continuous; a bin is one of 1000 equal parts of the
picture's width or height (arXiv 2310.07704, section 3.1: "n_bins = 1000").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from .errors import InputError
from .regions import Box

BINS = 1000

BoxBins: TypeAlias = tuple[int, int, int, int]
UnitBox: TypeAlias = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in 0..1 of a picture."""


def to_bin(value: float, size: int) -> int:
    """Pixels -> bin: `int(value * 1000 / size)` of the value clamped to 0..size - 1, as Ferret writes it.

    >>> to_bin(320, 640), to_bin(640, 640), to_bin(-5, 640)
    (500, 998, 0)
    """
    return int(min(max(value, 0), size - 1) * BINS / size)


def from_bin(index: int, size: int) -> float:
    """Bin -> pixels, at the centre of the bin (the reference takes its edge); InputError outside 0..999.

    >>> from_bin(500, 640)
    320.32
    """
    if not 0 <= index < BINS:
        raise InputError(f"a coordinate in bins must lie between 0 and {BINS - 1}, not {index}")
    return (index + 0.5) * size / BINS


def box_to_bins(box: Box, width: int, height: int) -> BoxBins:
    """A box in pixels of a picture of that size -> four bins (x1, y1, x2, y2).

    >>> box_to_bins(Box(64, 48, 320, 240), 640, 480)
    (100, 100, 500, 500)
    """
    return to_bin(box.x1, width), to_bin(box.y1, height), to_bin(box.x2, width), to_bin(box.y2, height)


def bins_to_box(bins: BoxBins, width: int, height: int) -> Box:
    """Four bins (x1, y1, x2, y2) -> a box in pixels of a picture of that size, between the bins' centres.

    >>> bins_to_box((100, 100, 500, 500), 1000, 500)
    Box(x1=100.5, y1=50.25, x2=500.5, y2=250.25)
    """
    x1, y1, x2, y2 = bins
    return Box(from_bin(x1, width), from_bin(y1, height), from_bin(x2, width), from_bin(y2, height))


def repair_bins(bins: BoxBins) -> BoxBins:
    """Any four whole numbers -> bins of a box: clipped to 0..999, corners in order.

    >>> repair_bins((300, -5, 100, 2000))
    (100, 0, 300, 999)
    """
    x1, y1, x2, y2 = (min(max(index, 0), BINS - 1) for index in bins)
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def normalize_box(box: Box, width: int, height: int) -> tuple[float, float, float, float]:
    """Pixels -> 0..1 of width and height, without clipping.

    >>> normalize_box(Box(64, 48, 320, 240), 640, 480)
    (0.1, 0.1, 0.5, 0.5)
    """
    return box.x1 / width, box.y1 / height, box.x2 / width, box.y2 / height


def denormalize_box(normalized: Sequence[float], width: int, height: int) -> Box:
    """Four numbers 0..1 (x1, y1, x2, y2) -> a box in pixels, without clipping; InputError if not four.

    >>> denormalize_box((0.25, 0.5, 0.75, 1), 640, 480)
    Box(x1=160.0, y1=240.0, x2=480.0, y2=480.0)
    """
    if len(normalized) != 4:
        raise InputError(f"a normalized box is four numbers x1, y1, x2, y2, not {len(normalized)}")
    x1, y1, x2, y2 = normalized
    return Box(x1 * width, y1 * height, x2 * width, y2 * height)


def format_bins_text(bins: Sequence[int]) -> str:
    """Bins as the paper writes them: a point `[x, y]` or a box `[x1, y1, x2, y2]`.

    >>> format_bins_text((1, 2, 3, 4))
    '[1, 2, 3, 4]'
    """
    return f"[{', '.join(str(index) for index in bins)}]"


def format_bins_tokens(bins: Sequence[int]) -> str:
    """Bins as location tokens, one token each.

    >>> format_bins_tokens((1, 2, 3, 4))
    '<loc_1><loc_2><loc_3><loc_4>'
    """
    return "".join(f"<loc_{index}>" for index in bins)
