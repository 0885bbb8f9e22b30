"""Regions that a person could have drawn to mean a thing whose box or mask is known; seeded."""

from __future__ import annotations

import zlib
from typing import Literal, TypeAlias

import numpy as np

from openferret.eval.metrics.boxes import BoxNumbers
from openferret.eval.questions import Spot
from openferret.masks import BoolArray

Kind: TypeAlias = Literal["point", "box", "scribble"]
KINDS: tuple[Kind, ...] = ("point", "box", "scribble")


def seed_of(*parts: object) -> int:
    """A seed from names and numbers, the same on every machine.

    >>> seed_of("1000092795", 0)
    1688879200
    """
    return zlib.crc32(" ".join(str(part) for part in parts).encode())


def spot_in_box(box: BoxNumbers, kind: Kind, seed: int) -> Spot:
    """Points at what is in a box, where no mask is known.

    A point lies near the box's middle (Gaussian, 0.15 of each side), a scribble joins four such points (0.2).

    Args:
        box: 0..1 of the picture.
        kind: of the region.
        seed: of the drawing.

    >>> spot_in_box((0.0, 0.0, 1.0, 1.0), "box", 0).numbers
    (0.0, 0.0, 1.0, 1.0)
    """
    if kind == "box":
        return Spot("box", tuple(float(value) for value in box))
    generator = np.random.default_rng(seed)
    low, side = np.array(box[:2]), np.array(box[2:]) - np.array(box[:2])
    spread, count = (0.15, 1) if kind == "point" else (0.2, 4)
    inside = low + side * np.clip(generator.normal(0.5, spread, (count, 2)), 0.1, 0.9)
    return Spot(kind, tuple(float(value) for value in inside.ravel()))


def spot_in_mask(mask: BoolArray, box: BoxNumbers, kind: Kind, seed: int) -> Spot:
    """Points at what a mask covers: any of its pixels, its box, or a stroke whose middle line stays inside.

    The stroke joins up to six pixels of the mask; a piece that would leave the mask is not drawn. Ferret
    does not say how its strokes were made.

    Args:
        mask: `[height, width]`, of the picture; not empty.
        box: the mask's own, 0..1 of the picture.
        kind: of the region.
        seed: of the drawing.

    >>> spot_in_mask(np.eye(4, dtype=bool), (0, 0, 1, 1), "point", 0).kind
    'point'
    """
    if kind == "box":
        return Spot("box", tuple(float(value) for value in box))
    generator = np.random.default_rng(seed)
    covered = np.flatnonzero(mask)
    chosen = generator.integers(0, len(covered), 1 if kind == "point" else 40)
    rows, columns = np.divmod(covered[chosen], mask.shape[1])
    places = np.stack([columns, rows], axis=1) + 0.5
    path = [places[0]]
    for place in places[1:]:
        if len(path) == 6:
            break
        steps = np.linspace(path[-1], place, int(np.abs(place - path[-1]).max()) + 2)
        cells = np.floor(steps).astype(np.int64)
        if mask[cells[:, 1], cells[:, 0]].all():
            path.append(place)
    scale = np.array([mask.shape[1], mask.shape[0]])
    return Spot(kind, tuple(float(value) for value in (np.array(path) / scale).ravel()))
