"""What is learned from a picture: all of it, a part with its boxes, and a part without any.

With the vision tower at rest a picture is seen once, so that what varies must be other pictures. A part without the
things that were labelled shows what the rest of such pictures looks like: the model must say "not there" of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from openferret.data.files.atomic import whole_file
from openferret.eval.metrics.boxes import BoxNumbers, area
from openferret.images import load_image
from openferret.train.finetune.own_data import OwnPicture

_TRIES = 30
_SEEN, _GONE = 0.85, 0.02  # least share of a box that is still it, most that is nothing of it
_LARGEST = 1024  # pixels of the longer side that is kept


@dataclass(frozen=True)
class View:
    """A picture to learn from.

    Attributes:
        source: "own" (a picture as it is) or "parts".
        file: below the folder of that source.
        width: in pixels.
        height: in pixels.
        boxes: by class, in 0..1.
        unsure: classes that may be on it without a box.
    """

    source: str
    file: str
    width: int
    height: int
    boxes: Mapping[str, tuple[BoxNumbers, ...]]
    unsure: frozenset[str] = frozenset()


def make_views(pictures: Sequence[OwnPicture], folder: Path, seed: int) -> list[View]:
    """The views of every picture; parts are written as JPEG, once.

    Args:
        pictures: to learn from.
        folder: for the parts.
        seed: of the parts.

    Raises:
        InputError: a picture cannot be read, or a part cannot be written.
    """
    return [view for one in pictures for view in _views(one, folder, seed)]


def _views(picture: OwnPicture, folder: Path, seed: int) -> Iterator[View]:
    yield View("own", picture.file, picture.width, picture.height, picture.boxes, picture.unsure)
    chance = np.random.default_rng(zlib.crc32(f"{seed} {picture.file}".encode()))
    image: Image.Image | None = None
    for number, shown in enumerate((True, False)):
        found = _find_part(picture, shown, chance)
        if found is None:
            continue
        corners, boxes = found
        x1, y1, x2, y2 = (
            round(side * whole)
            for side, whole in zip(corners, (picture.width, picture.height) * 2, strict=True)
        )
        name = f"{zlib.crc32(picture.file.encode()):08x}-{number}.jpg"
        width, height = x2 - x1, y2 - y1
        scale = min(1.0, _LARGEST / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        if not (folder / name).is_file():
            image = image or load_image(picture.path)
            with whole_file(folder / name) as partial:
                part = image.crop((x1, y1, x2, y2)).resize(size, Image.Resampling.BICUBIC)
                part.save(partial, "JPEG", quality=92)
        yield View("parts", name, *size, boxes, picture.unsure)


def _find_part(
    picture: OwnPicture, shown: bool, chance: np.random.Generator
) -> tuple[BoxNumbers, dict[str, tuple[BoxNumbers, ...]]] | None:
    """A part that shows each box whole or not at all, and at least one (`shown`) or none; None if none is found."""
    least = 0.55 if shown else 0.4
    for _ in range(_TRIES):
        width, height = chance.uniform(least, 0.95, 2)
        x, y = chance.uniform(0, 1 - width), chance.uniform(0, 1 - height)
        corners = (float(x), float(y), float(x + width), float(y + height))
        placed = {name: [_place(box, corners) for box in boxes] for name, boxes in picture.boxes.items()}
        shares = [share for boxes in placed.values() for _, share in boxes]
        if any(_GONE < share < _SEEN for share in shares):
            continue
        kept = {name: tuple(box for box, share in boxes if share >= _SEEN) for name, boxes in placed.items()}
        kept = {name: boxes for name, boxes in kept.items() if boxes}
        if bool(kept) == shown:
            return corners, kept
    return None


def _place(box: BoxNumbers, corners: BoxNumbers) -> tuple[BoxNumbers, float]:
    """A box as a part shows it, in 0..1 of the part, and the share of its area that is left."""
    left, top, right, bottom = corners
    width, height = right - left, bottom - top
    x1, y1, x2, y2 = (
        min(max((side - low) / span, 0.0), 1.0)
        for side, low, span in zip(box, (left, top, left, top), (width, height, width, height), strict=True)
    )
    inside = (x1, y1, x2, y2)
    return inside, area(inside) * width * height / area(box)
