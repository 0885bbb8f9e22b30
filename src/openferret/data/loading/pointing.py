"""How a region of a sample is shown to a model: as a point, a box, a free shape or a mask, chosen at load.

A sample's `Box` stands for a thing. Which region a person would have drawn to mean it is decided by the seed, the
sample's id, the epoch and the region's number, and by nothing else: the same in every worker and after a restart,
another in the next epoch (arXiv 2310.07704, sections 3.1 and 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from openferret.coordinates import normalize_box
from openferret.data.schema import Sample
from openferret.errors import InputError
from openferret.eval.pointing import seed_of, spot_in_box, spot_in_mask
from openferret.regions import Box, Mask, Polygon, Region

Shown: TypeAlias = Literal["point", "box", "scribble", "polygon", "mask"]
KINDS: tuple[Shown, ...] = get_args(Shown)
_CORNERS = 12


def show_region(
    sample: Sample, index: int, epoch: int, seed: int = 0, kinds: Sequence[Shown] = KINDS
) -> Region:
    """What is drawn to mean a region of a sample.

    Args:
        sample: with the region.
        index: of the region.
        epoch: of the training; another one draws anew.
        seed: of the training.
        kinds: to choose from, each as likely as the others. A mask, and a polygon that follows the thing, need
            its outline; without one a mask is drawn as a box and a polygon is a rough ellipse in the box.

    Returns:
        A region in pixels of the picture. One that is not a Box in the sample is returned as it is: its writer
        has decided.

    Raises:
        InputError: a kind that is not known, or a region of a sample without a picture of known size.

    Example:
        >>> from openferret.data.schema import PictureReference, Turn
        >>> turns = (Turn("user", "What is <region:0>?"), Turn("assistant", "A cat."))
        >>> sample = Sample("1", PictureReference("1.jpg", 640, 480, "mine", "1"), turns, (Box(10, 20, 200, 220),))
        >>> show_region(sample, 0, epoch=0) == show_region(sample, 0, epoch=0)
        True
    """
    region = sample.regions[index]
    if not isinstance(region, Box):
        return region
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise InputError(f"regions are shown as {', '.join(KINDS)}, not as {', '.join(unknown) or 'nothing'}")
    if sample.picture is None or not sample.picture.known_size:
        raise InputError(
            f"sample {sample.id} has no picture of known size, so that nothing can be drawn on it"
        )
    width, height = sample.picture.width, sample.picture.height
    drawing = seed_of(seed, sample.id, epoch, index)
    generator = np.random.default_rng(drawing)
    kind = kinds[int(generator.integers(len(kinds)))]
    box = sample.box(index)
    if kind == "box":
        return box
    runs = sample.mask(index)
    mask = runs.mask() if runs is not None else None
    if kind == "mask":
        return mask or box
    if kind == "polygon":
        return _outlined(mask, generator) if mask is not None else _ellipse(box, generator)
    unit = normalize_box(box, width, height)
    if mask is not None:
        return spot_in_mask(mask.array, unit, kind, drawing).region(width, height)
    return spot_in_box(unit, kind, drawing).region(width, height)


def _ellipse(box: Box, generator: np.random.Generator) -> Polygon:
    """A rough loop about the middle of a box, as a hand draws it."""
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    reach = generator.uniform(0.75, 1.0, _CORNERS)
    return _loop(
        (box.x1 + box.x2) / 2 + np.cos(angles) * reach * (box.x2 - box.x1) / 2,
        (box.y1 + box.y2) / 2 + np.sin(angles) * reach * (box.y2 - box.y1) / 2,
    )


def _outlined(mask: Mask, generator: np.random.Generator) -> Polygon:
    """A loop that follows a mask roughly: in each direction from its middle to its farthest pixel, shaken."""
    rows, columns = np.nonzero(mask.array)
    xs, ys = columns + 0.5, rows + 0.5
    x, y = float(xs.mean()), float(ys.mean())
    angles = np.linspace(-np.pi, np.pi, _CORNERS, endpoint=False)
    sector = (
        np.floor((np.arctan2(ys - y, xs - x) + np.pi) / (2 * np.pi) * _CORNERS).astype(np.int64) % _CORNERS
    )
    distance = np.hypot(xs - x, ys - y)
    farthest = np.full(_CORNERS, 0.5)
    np.maximum.at(farthest, sector, distance)
    reach = farthest * generator.uniform(0.85, 1.0, _CORNERS)
    middle = angles + np.pi / _CORNERS
    return _loop(x + np.cos(middle) * reach, y + np.sin(middle) * reach)


def _loop(xs: NDArray[np.float64], ys: NDArray[np.float64]) -> Polygon:
    return Polygon(np.stack([xs, ys], axis=-1).round(2).tolist())
