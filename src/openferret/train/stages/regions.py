"""Regions drawn for training: points, boxes and scribbles of annotated boxes, as sampler points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openferret.processing.geometry import SamplerGeometry, region_geometry

Kind = Literal["box", "point", "scribble"]
KINDS: tuple[Kind, ...] = ("box", "point", "scribble")
POINT_RADIUS = 5 / 336
STROKE_WIDTH = 2 * POINT_RADIUS


@dataclass(frozen=True)
class RegionTensors:
    """What the sampler needs of R regions.

    Attributes:
        points: float [R, N, 2], (x, y) in 0..1.
        anchors: for each block, int64 [R, S].
        neighbors: for each block, int64 [R, S, k].
    """

    points: Tensor
    anchors: tuple[Tensor, ...]
    neighbors: tuple[Tensor, ...]

    @classmethod
    def of(cls, points: NDArray[np.float32], sizes: SamplerGeometry) -> RegionTensors:
        """Of points float32 [R, N, 2] drawn in the regions."""
        geometry = region_geometry(points, sizes)
        return cls(
            torch.from_numpy(geometry.points),
            tuple(torch.from_numpy(one) for one in geometry.anchors),
            tuple(torch.from_numpy(one) for one in geometry.neighbors),
        )


def draw_region(
    box: tuple[float, float, float, float] | NDArray[np.float32],
    kind: Kind,
    count: int,
    generator: np.random.Generator,
) -> tuple[NDArray[np.float32], tuple[float, float, float, float]]:
    """What a person could have drawn to mean the thing in a box.

    Args:
        box: (x1, y1, x2, y2) in 0..1.
        kind: a box is the box itself; a point lies near its middle (Gaussian, a sixth of each side); a
            scribble wanders about its middle.
        count: sampled points.
        generator: source of randomness.

    Returns:
        float32 [count, 2] points in 0..1, and the bounds of what was drawn, (x1, y1, x2, y2) in 0..1.
    """
    x1, y1, x2, y2 = (float(side) for side in box)
    low, side = np.array([x1, y1]), np.array([max(x2 - x1, 1e-4), max(y2 - y1, 1e-4)])
    if kind == "box":
        points = low + generator.random((count, 2)) * side
        return points.astype(np.float32), (x1, y1, x2, y2)
    if kind == "point":
        centre = low + side * np.clip(generator.normal(0.5, 0.15, 2), 0.1, 0.9)
        path, width = centre[None], 2 * POINT_RADIUS
    else:
        knots = low + side * np.clip(generator.normal(0.5, 0.2, (generator.integers(3, 6), 2)), 0.05, 0.95)
        at = np.linspace(0, len(knots) - 1, 64)
        path = np.stack([np.interp(at, np.arange(len(knots)), knots[:, axis]) for axis in (0, 1)], axis=-1)
        width = STROKE_WIDTH
    angle = generator.random(count) * 2 * np.pi
    reach = np.sqrt(generator.random(count)) * width / 2
    offset = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * reach[:, None]
    points = path[generator.integers(0, len(path), count)] + offset
    points = np.clip(points, 0, 1).astype(np.float32)
    bounds = (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())
    return points, (bounds[0], bounds[1], bounds[2], bounds[3])
