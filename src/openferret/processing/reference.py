"""Regions as the reference makes them: what its released checkpoints were trained with.

A point is a square window of 11 x 11 pixels, a box includes its last column and row, sampled points are pixel
corners (x / width), and pixels are counted column by column. `openferret.regions` and
`openferret.processing.geometry` do the same in continuous coordinates, with discs and pixel centres.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openferret.errors import InputError
from openferret.processing.geometry import Points
from openferret.regions import Box, Point, Region, region_mask

POINT_SPAN = 5

BoolArray = NDArray[np.bool_]


def coordinates_mask(coordinates: Sequence[float], width: int, height: int) -> BoolArray:
    """The mask of a point (x, y) or a box (x1, y1, x2, y2).

    Args:
        coordinates: two or four numbers in pixels; fractions are cut off.
        width: of the picture in pixels.
        height: of the picture in pixels.

    Returns:
        bool [height, width]; the reference itself keeps it transposed.

    Raises:
        InputError: neither two nor four numbers.

    Example:
        >>> int(coordinates_mask((0, 0), 120, 80).sum()), int(coordinates_mask((5, 5, 5, 5), 120, 80).sum())
        (36, 1)
    """
    if len(coordinates) not in (2, 4):
        raise InputError(f"a point is two numbers and a box is four, not {len(coordinates)}")
    if len(coordinates) == 2:
        x, y = coordinates
        coordinates = (x - POINT_SPAN, y - POINT_SPAN, x + POINT_SPAN, y + POINT_SPAN)
    left, top, right, bottom = map(int, coordinates)
    mask = np.zeros((height, width), np.bool_)
    mask[max(top, 0) : max(bottom + 1, 0), max(left, 0) : max(right + 1, 0)] = True
    return mask


def reference_mask(region: Region, width: int, height: int) -> BoolArray:
    """Any region as the reference rasterises it, at the picture's full size; never empty.

    Args:
        region: in pixels of the picture. As there, numbers are first brought into 0..size - 1; a box's corners may
            come in either order.
        width: of the picture in pixels.
        height: of the picture in pixels.

    Returns:
        bool [height, width].
    """
    if isinstance(region, Point):
        return coordinates_mask((_onto(region.x, width), _onto(region.y, height)), width, height)
    if isinstance(region, Box):
        left, right = sorted((_onto(region.x1, width), _onto(region.x2, width)))
        top, bottom = sorted((_onto(region.y1, height), _onto(region.y2, height)))
        return coordinates_mask((left, top, right, bottom), width, height)
    return region_mask(region, width, height, max_side=max(width, height))


def reference_points(mask: BoolArray, count: int, seed: int = 0) -> Points:
    """Draws points among a mask's pixels as the reference does, but seeded.

    Args:
        mask: bool [h, w], True inside the region.
        count: how many points.
        seed: the same seed and mask give the same points.

    Returns:
        float32 [count, 2], (x, y) in 0..1, excluding 1: pixel corners. Where there are fewer than `count`
        pixels: all of them, column by column, followed by repeats.

    Raises:
        InputError: the mask has no pixel inside.

    Example:
        >>> reference_points(np.ones((1, 2), np.bool_), 2).tolist()
        [[0.0, 0.0], [0.5, 0.0]]
    """
    height, width = mask.shape
    pixels = np.argwhere(mask.T)
    if not len(pixels):
        raise InputError("The region is empty: its mask has no pixel inside.")
    generator = np.random.default_rng(seed)
    if len(pixels) > count:
        pixels = generator.choice(pixels, count, replace=False)
    else:
        repeats = pixels[generator.integers(0, len(pixels), count - len(pixels))]
        pixels = np.concatenate([pixels, repeats])
    points: Points = (pixels / np.array([width, height])).astype(np.float32)
    return points


def _onto(value: float, size: int) -> float:
    return min(max(value, 0.0), size - 1.0)
