"""A closer look: the crop round a region that the second look of a model's namer sees.

A whole picture is squashed to some 320 pixels before its maps are made; a crop comes from the picture itself, so small
things are seen as sharply as the camera saw them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openferret.coordinates import UnitBox
from openferret.regions import Point, Region, Scribble, region_bounds

Drawn = Literal["box", "point", "scribble"]


@dataclass(frozen=True)
class Framing:
    """How a crop is laid round what was drawn.

    Attributes:
        growth: sides of the crop over those of the drawing's bounds.
        least: least side of the crop, as a share of the picture's.
    """

    growth: float
    least: float


FRAMING: dict[Drawn, Framing] = {
    "box": Framing(1.4, 0.08),
    # A stroke runs inside what it means, and a point says nothing of its size.
    "scribble": Framing(2.2, 0.2),
    "point": Framing(1.4, 0.35),
}
"""Part of what a model was trained with."""


def crop_window(bounds: UnitBox, drawn: Drawn, zoom: float = 1.0) -> UnitBox:
    """The crop round a region.

    Args:
        bounds: of what was drawn, (x1, y1, x2, y2) in 0..1 of the picture.
        drawn: as what; the outline and the mask of a thing count as its box.
        zoom: factor of the crop's sides, for training.

    Returns:
        (x1, y1, x2, y2) in 0..1, clipped to the picture; neither side is less than half the other before.

    Example:
        >>> [round(side, 2) for side in crop_window((0.4, 0.4, 0.6, 0.6), "box")]
        [0.36, 0.36, 0.64, 0.64]
    """
    frame = FRAMING[drawn]
    growth, least = frame.growth * zoom, frame.least * zoom
    width, height = bounds[2] - bounds[0], bounds[3] - bounds[1]
    across = max(growth * width, growth * height / 2, least) / 2
    down = max(growth * height, growth * width / 2, least) / 2
    x, y = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
    return max(x - across, 0.0), max(y - down, 0.0), min(x + across, 1.0), min(y + down, 1.0)


def drawn_as(region: Region) -> Drawn:
    """As what a region counts: a mask and a polygon show a thing's bounds as a box does."""
    if isinstance(region, Point):
        return "point"
    return "scribble" if isinstance(region, Scribble) else "box"


def unit_bounds(region: Region, width: int, height: int) -> UnitBox:
    """Bounds of what a region covers, (x1, y1, x2, y2) in 0..1 of a picture of this size in pixels."""
    bounds = region_bounds(region, width, height)
    return bounds.x1 / width, bounds.y1 / height, bounds.x2 / width, bounds.y2 / height


def crop_image(image: Image.Image, window: UnitBox, side: int) -> NDArray[np.uint8]:
    """A window (x1, y1, x2, y2 in 0..1) of an RGB picture, squashed to a square: uint8 [side, side, 3]."""
    sides = (image.width, image.height, image.width, image.height)
    x1, y1, x2, y2 = (one * size for one, size in zip(window, sides, strict=True))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=(x1, y1, x2, y2)))


def closer_crops(
    image: Image.Image, regions: Sequence[Region], side: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """What a closer look sees of regions.

    Args:
        image: upright RGB.
        regions: in its pixels.
        side: of the crops, in pixels.

    Returns:
        Crops uint8 [R, side, side, 3], and bounds of the regions float32 [R, 4] in 0..1.
    """
    bounds = [unit_bounds(one, *image.size) for one in regions]
    windows = [crop_window(where, drawn_as(one)) for where, one in zip(bounds, regions, strict=True)]
    crops = np.stack([crop_image(image, window, side) for window in windows])
    return crops, np.array(bounds, np.float32)
