"""From a mask to what the visual sampler needs: points, anchors and neighbours (paper, section 3.2).

These depend on the mask alone, so they are made here, in NumPy and seeded: the model is deterministic and
static in shape. All functions work on many regions at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from openferret.errors import InputError

Points = NDArray[np.float32]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class SamplerGeometry:
    """How many points are drawn, and how each block thins them out.

    Attributes:
        points: points drawn in a region (paper: 512).
        anchors: points kept by farthest point sampling in each block (paper: 128, 32).
        neighbors: neighbours pooled into an anchor in each block (paper: 24, 24).
    """

    points: int = 512
    anchors: tuple[int, ...] = (128, 32)
    neighbors: tuple[int, ...] = (24, 24)

    def __post_init__(self) -> None:
        """Refuses sizes that no region could satisfy."""
        sizes = (self.points, *self.anchors)
        if len(self.anchors) != len(self.neighbors) or not self.anchors:
            raise InputError("The sampler needs one neighbour count for each anchor count.")
        if any(later > earlier or later < 1 for earlier, later in pairwise(sizes)):
            raise InputError(f"The sampler's points must not grow from block to block, but are {sizes}.")
        if any(not 1 <= k <= size for k, size in zip(self.neighbors, sizes, strict=False)):
            raise InputError(f"The sampler's neighbours {self.neighbors} must lie within its points {sizes}.")


@dataclass(frozen=True)
class RegionGeometry:
    """Geometry of R regions.

    Attributes:
        points: float32 [R, N, 2], (x, y) in 0..1.
        anchors: for each block, int64 [R, S]: which of the block's points are anchors.
        neighbors: for each block, int64 [R, S, k]: the points nearest to each anchor, itself first.
    """

    points: Points
    anchors: tuple[Indices, ...]
    neighbors: tuple[Indices, ...]


def sample_points(mask: NDArray[np.bool_], count: int, seed: int = 0) -> Points:
    """Draws points among a mask's pixels, without repeats as long as there are enough.

    Args:
        mask: bool [h, w], True inside the region.
        count: how many points.
        seed: the same seed and mask give the same points.

    Returns:
        float32 [count, 2], (x, y) in 0..1: pixel centres.

    Raises:
        InputError: the mask has no pixel inside.

    Example:
        >>> sample_points(np.ones((1, 1), bool), 2).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    inside = np.flatnonzero(mask)
    if inside.size == 0:
        raise InputError("The region is empty: its mask has no pixel inside.")
    generator = np.random.default_rng(seed)
    if inside.size >= count:
        drawn = generator.choice(inside, count, replace=False, shuffle=False)
    else:
        drawn = np.concatenate([inside, generator.choice(inside, count - inside.size)])
    height, width = mask.shape
    rows, columns = np.divmod(drawn, width)
    return np.stack([(columns + 0.5) / width, (rows + 0.5) / height], axis=-1).astype(np.float32)


def farthest_points(points: Points, count: int) -> Indices:
    """Farthest point sampling, started at the point nearest to the centroid.

    Args:
        points: float32 [R, N, 2].
        count: S, how many to keep.

    Returns:
        int64 [R, S], from the centre outwards; ties go to the lower index.
    """
    regions = np.arange(points.shape[0])
    centre = points.mean(axis=1, keepdims=True)
    chosen = np.empty((points.shape[0], count), np.int64)
    chosen[:, 0] = ((points - centre) ** 2).sum(-1).argmin(axis=1)
    distance = np.full(points.shape[:2], np.inf, np.float32)
    for step in range(1, count):
        latest = points[regions, chosen[:, step - 1]][:, None]
        np.minimum(distance, ((points - latest) ** 2).sum(-1), out=distance)
        chosen[:, step] = distance.argmax(axis=1)
    return chosen


def nearest_neighbors(points: Points, anchors: Points, count: int) -> Indices:
    """The points nearest to each anchor.

    Args:
        points: float32 [R, N, 2].
        anchors: float32 [R, S, 2].
        count: k, at most N.

    Returns:
        int64 [R, S, k], nearest first; ties go to the lower index.
    """
    distance = ((anchors[:, :, None] - points[:, None]) ** 2).sum(-1)
    return np.argsort(distance, axis=-1, kind="stable")[..., :count].astype(np.int64)


def region_geometry(points: Points, sizes: SamplerGeometry) -> RegionGeometry:
    """Anchors and neighbours of every block for points already drawn.

    Args:
        points: float32 [R, N, 2] in 0..1, N = `sizes.points`.
        sizes: the sampler's sizes.

    Example:
        >>> sizes = SamplerGeometry(points=4, anchors=(2,), neighbors=(2,))
        >>> region_geometry(np.zeros((1, 4, 2), np.float32), sizes).neighbors[0].shape
        (1, 2, 2)
    """
    anchors, neighbors, current = [], [], points
    for keep, near in zip(sizes.anchors, sizes.neighbors, strict=True):
        chosen = farthest_points(current, keep)
        kept = np.take_along_axis(current, chosen[..., None], axis=1)
        anchors.append(chosen)
        neighbors.append(nearest_neighbors(current, kept, near))
        current = kept
    return RegionGeometry(points, tuple(anchors), tuple(neighbors))


def masks_geometry(
    masks: Sequence[NDArray[np.bool_]],
    sizes: SamplerGeometry,
    seed: int = 0,
    draw: Callable[[NDArray[np.bool_], int, int], Points] = sample_points,
) -> RegionGeometry:
    """Geometry of several masks, each bool [h, w] of its own size.

    Args:
        masks: of the regions.
        sizes: the sampler's sizes.
        seed: of the drawn points.
        draw: `sample_points`, or another that takes the same.

    Raises:
        InputError: a mask has no pixel inside.
    """
    drawn = [draw(mask, sizes.points, seed) for mask in masks]
    empty = np.empty((0, sizes.points, 2), np.float32)
    return region_geometry(np.stack(drawn) if drawn else empty, sizes)
