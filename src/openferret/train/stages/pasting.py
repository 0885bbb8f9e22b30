"""Things cut out of one picture and pasted into another: a thing is there because it is seen, not because of the scene.

COCO's few pictures show most of its classes two or three times, always where one expects them, so that what is learned
of a fork is that it lies in kitchens. Cut out along their masks and put elsewhere, they are seen with everything
("Simple Copy-Paste is a Strong Data Augmentation Method", arXiv 2012.07177, which also pastes at random places).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from openferret.errors import InputError
from openferret.flickr30k import NormalizedBox
from openferret.images import load_image
from openferret.nouns import head_noun
from openferret.train.stages.pictures import (
    STORED_SIDE,
    Named,
    PixelStore,
    Record,
    class_phrases,
    held_out,
)

LEAST = 10 / 224
"""Things whose width or height is less of their picture are too coarse to be known again."""
_KEPT_SIDE = 128  # pixels of a cutout's longer side: about as many as are ever pasted
_HIDES = 0.35  # of what somebody has named, at most so much is pasted over
_TRIES = 8


@dataclass(frozen=True)
class Cutout:
    """A thing without what is round it.

    Attributes:
        name: its class.
        width: of it, as a share of its picture's.
        height: of it, as a share of its picture's.
        pixels: uint8 [h, w, 4], colours and how much of each is the thing's.
    """

    name: str
    width: float
    height: float
    pixels: NDArray[np.uint8]


def read_cutouts(annotations: Path, images: Path) -> dict[str, tuple[Cutout, ...]]:
    """Every whole thing with a polygon mask on the COCO pictures that are trained on, by class; no persons.

    A thing that its picture's edge cuts off is left out, and so is one under `LEAST`.

    Args:
        annotations: of COCO's instances.
        images: the folder of its pictures.

    Raises:
        InputError: the annotations are not there.
    """
    if not annotations.is_file():
        raise InputError(
            f"{annotations} is not a file; things are cut out of COCO's pictures, which are needed then"
        )
    content = json.loads(annotations.read_text(encoding="utf-8"))
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    files = {one["id"]: one["file_name"] for one in content["images"] if not held_out(one["id"])}
    things: dict[int, list[tuple[str, list[list[float]]]]] = {}
    for item in content["annotations"]:
        name = names[item["category_id"]]
        if item["image_id"] in files and name != "person" and isinstance(item["segmentation"], list):
            things.setdefault(item["image_id"], []).append((name, item["segmentation"]))
    found: dict[str, list[Cutout]] = {}
    for number, each in things.items():
        picture = load_image(images / files[number])
        for name, polygons in each:
            cut = _cut(picture, name, polygons)
            if cut is not None:
                found.setdefault(name, []).append(cut)
    return {name: tuple(cuts) for name, cuts in found.items()}


def _cut(picture: Image.Image, name: str, polygons: list[list[float]]) -> Cutout | None:
    """One thing; None if it is small or cut off."""
    mask = Image.new("L", picture.size)
    drawing = ImageDraw.Draw(mask)
    for polygon in polygons:
        drawing.polygon(polygon, fill=255)
    mask = mask.filter(ImageFilter.MinFilter(3))  # outlines reach a little too far
    bounds = mask.getbbox()
    if bounds is None:
        return None
    left, top, right, bottom = bounds
    width, height = (right - left) / picture.width, (bottom - top) / picture.height
    cut_off = left <= 2 or top <= 2 or right >= picture.width - 2 or bottom >= picture.height - 2
    if cut_off or min(width, height) < LEAST:
        return None
    thing = picture.convert("RGB").crop(bounds)
    thing.putalpha(mask.crop(bounds))
    thing.thumbnail((_KEPT_SIDE, _KEPT_SIDE))
    return Cutout(name, width, height, np.asarray(thing))


def paste_things(
    store: PixelStore,
    records: Sequence[Record],
    cutouts: Mapping[str, Sequence[Cutout]],
    generator: np.random.Generator,
    share: float = 0.5,
    most: int = 3,
) -> tuple[NDArray[np.uint8], list[Record]]:
    """Puts things into some pictures of a batch.

    Pasted are only classes that the picture does not show, rare classes nearly as often as frequent ones, at most a
    third of what is named there is covered, and what is pasted is known as a detector's sure find would be.

    Args:
        store: pixels, by the records' rows.
        records: of the batch.
        cutouts: by class, from `read_cutouts`.
        generator: of what goes where.
        share: of the pictures that get anything, 0..1.
        most: things a picture.

    Returns:
        uint8 [n, 224, 224, 3], and the records with what is pasted, in the order of these pixels.
    """
    pixels = np.stack([store[record.row] for record in records])
    changed = []
    for row, record in enumerate(records):
        one = replace(record, row=row)
        if generator.random() < share:
            for _ in range(int(generator.integers(1, most + 1))):
                one = _paste(pixels[row], one, cutouts, generator)
        changed.append(one)
    return pixels, changed


def _paste(
    pixels: NDArray[np.uint8],
    record: Record,
    cutouts: Mapping[str, Sequence[Cutout]],
    generator: np.random.Generator,
) -> Record:
    """Puts one thing into a picture, in place; the record is as it was if there is no room."""
    names = [name for name in sorted(cutouts) if head_noun(name) not in record.heads]
    if not names:
        return record
    often = np.sqrt([len(cutouts[name]) for name in names])
    name = names[int(generator.choice(len(names), p=often / often.sum()))]
    thing = cutouts[name][int(generator.integers(len(cutouts[name])))]
    size = float(np.exp(generator.uniform(np.log(0.6), np.log(1.6))))
    width, height = (
        int(np.clip(round(STORED_SIDE * side * size), LEAST * STORED_SIDE, 0.6 * STORED_SIDE))
        for side in (thing.width, thing.height)
    )
    for _ in range(_TRIES):
        left = int(generator.integers(STORED_SIDE - width))
        top = int(generator.integers(STORED_SIDE - height))
        box = tuple(side / STORED_SIDE for side in (left, top, left + width, top + height))
        if all(_hidden(said, box) <= _HIDES for named in record.named for said in named.boxes):
            break
    else:
        return record
    shown = Image.fromarray(thing.pixels).resize((width, height))
    if generator.random() < 0.5:
        shown = shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    drawn = np.asarray(shown, np.float32)
    alpha = drawn[..., 3:] / 255
    under = pixels[top : top + height, left : left + width]
    under[:] = np.rint(drawn[..., :3] * alpha + under * (1 - alpha)).astype(np.uint8)
    named = [replace(one, detected=1.0) for one in class_phrases({name: [(box[0], box[1], box[2], box[3])]})]
    return _with(record, name, named)


def _with(record: Record, name: str, named: list[Named]) -> Record:
    return replace(
        record,
        named=(*record.named, *named),
        heads=record.heads | {head_noun(name)},
        absent=tuple(other for other in record.absent if other != name),
    )


def _hidden(said: NormalizedBox, pasted: Sequence[float]) -> float:
    """The share of a box that another covers."""
    width = min(said[2], pasted[2]) - max(said[0], pasted[0])
    height = min(said[3], pasted[3]) - max(said[1], pasted[1])
    area = (said[2] - said[0]) * (said[3] - said[1])
    return max(width, 0.0) * max(height, 0.0) / max(area, 1e-9)
