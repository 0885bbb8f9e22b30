"""Training records: pictures, what is annotated on them, and batches of augmented crops."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from openferret.eval.leaks import picture_id
from openferret.flickr30k import Caption, EntitiesPicture, NormalizedBox
from openferret.images import load_image
from openferret.nouns import head_noun

STORED_SIDE = 224
COLLECTIVE = frozenset(
    """
    audience band bunch class collection couple crew crowd family gathering group line lot pair pile row
    series set several stack team trio variety
    """.split()  # noqa: SIM905 (a list of thirty quoted words is harder to read)
)
NAMES_FROM = 0.3
"""A detector's boxes of lower scores are looked for, but do not teach what a region is called."""


@dataclass(frozen=True)
class Named:
    """A phrase and the boxes it names, in 0..1.

    Attributes:
        text: as said.
        head: its head noun.
        boxes: one for each thing.
        people: marks persons, who are never safe negatives.
        detected: how sure a detector is of it, 0..1; 0 if somebody said so.
    """

    text: str
    head: str
    boxes: tuple[NormalizedBox, ...]
    people: bool
    detected: float = 0.0


@dataclass(frozen=True)
class Record:
    """What is known of one picture.

    Attributes:
        row: in the pixel store.
        named: all that is named on it, as often as said.
        heads: nouns of what is on it, with a box or without.
        people: whether there are any.
        captions: with their boxes.
        name: of the picture, as `openferret.data.building.leaks.identities` writes it: "coco:42", "flickr30k:36979".
        absent: classes that a detector did not see on it.
    """

    row: int
    named: tuple[Named, ...]
    heads: frozenset[str]
    people: bool
    captions: tuple[Caption, ...] = ()
    name: str = ""
    absent: tuple[str, ...] = ()

    def names(self, alone: bool = True) -> dict[NormalizedBox, dict[str, float]]:
        """What each box is called: head nouns and their share of its phrases; arguments are those of `mentions`."""
        return {
            box: {head: count / sum(heads.values()) for head, count in heads.items()}
            for box, heads in self.mentions(alone).items()
        }

    def mentions(self, alone: bool = True) -> dict[NormalizedBox, dict[str, float]]:
        """How often each box is called what: head nouns, each counted once a phrase, or a half where it is for several.

        What a detector saw names only boxes that nobody has named, where it is sure, and no persons: it does not tell
        men from women.

        Args:
            alone: only phrases of one box; else also of several ("two dogs": each is a dog), but for
                collective nouns ("a crowd").
        """
        counts: dict[NormalizedBox, dict[str, float]] = {}
        said = {box for one in self.named if not one.detected for box in one.boxes}
        for one in self.named:
            several = len(one.boxes) > 1
            if several and (alone or one.head in COLLECTIVE or len(one.boxes) > 6):
                continue
            if one.detected and (one.people or one.detected < NAMES_FROM):
                continue
            for box in one.boxes:
                if one.detected and box in said:
                    continue
                heads = counts.setdefault(box, {})
                heads[one.head] = heads.get(one.head, 0.0) + (0.5 if several else 1.0)
        return counts


def flickr_record(row: int, picture: EntitiesPicture) -> Record:
    """Every grounded phrase of the five captions."""
    named, heads, people = [], set(), False
    for caption in picture.captions:
        for phrase in caption.phrases:
            head = head_noun(phrase.text)
            heads.add(head)
            people = people or phrase.kind == "people"
            if phrase.boxes and head:
                named.append(Named(phrase.text, head, phrase.boxes, phrase.kind == "people"))
    return Record(
        row, tuple(named), frozenset(heads), people, picture.captions, f"flickr30k:{picture_id(picture.name)}"
    )


def held_out(picture_id: int) -> bool:
    """Whether a COCO mini picture is `mini-val`: a third by SHA-256 of its id, never trained on."""
    return int(hashlib.sha256(str(picture_id).encode()).hexdigest(), 16) % 3 == 0


def coco_records(annotations: Path, first_row: int, training: bool = True) -> tuple[list[Record], list[str]]:
    """COCO pictures as records, one phrase for each class on the picture.

    Returns:
        The records, and their file names in order of row.
    """
    content = json.loads(annotations.read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in content["categories"]}
    boxes: dict[int, dict[str, list[NormalizedBox]]] = {}
    crowds: dict[int, set[str]] = {}  # have no box of their own, but are not absent
    sizes = {picture["id"]: (picture["width"], picture["height"]) for picture in content["images"]}
    for item in content["annotations"]:
        if item["iscrowd"]:
            crowds.setdefault(item["image_id"], set()).add(names[item["category_id"]])
            continue
        width, height = sizes[item["image_id"]]
        x, y, w, h = item["bbox"]
        box = (x / width, y / height, min((x + w) / width, 1.0), min((y + h) / height, 1.0))
        boxes.setdefault(item["image_id"], {}).setdefault(names[item["category_id"]], []).append(box)
    records: list[Record] = []
    files: list[str] = []
    for picture in sorted(content["images"], key=lambda entry: int(entry["id"])):
        if held_out(picture["id"]) == training or picture["id"] not in boxes:
            continue
        named = class_phrases(boxes[picture["id"]])
        classes = boxes[picture["id"]].keys() | crowds.get(picture["id"], set())
        heads = frozenset(head_noun(name) for name in classes)
        row = first_row + len(files)
        records.append(
            Record(row, tuple(named), heads, "person" in classes, name=f"coco:{int(picture['id'])}")
        )
        files.append(picture["file_name"])
    return records, files


def class_phrases(boxes: Mapping[str, Sequence[NormalizedBox]]) -> list[Named]:
    """Boxes by class as phrases: each box ("a cup") and, where there are several, all of them ("the cups").

    Example:
        >>> [one.text for one in class_phrases({"cup": [(0.1, 0.1, 0.2, 0.2), (0.5, 0.1, 0.6, 0.2)]})]
        ['the cups', 'a cup', 'a cup']
    """
    named = []
    for name, found in boxes.items():
        head, people = head_noun(name), name == "person"
        text = f"an {name}" if name[0] in "aeiou" else f"a {name}"
        if len(found) > 1:
            named.append(Named(f"the {name}s", head, tuple(found), people))
        named += [Named(text, head, (box,), people) for box in found]
    return named


def pixel_store(target: Path, files: Sequence[Path]) -> NDArray[np.uint8]:
    """Pictures squashed to 224 x 224, once, in a memory-mapped file: uint8 [n, 224, 224, 3]."""
    if not target.exists():
        partial = target.with_suffix(".partial.npy")
        shape = (len(files), STORED_SIDE, STORED_SIDE, 3)
        store = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        for row, file in enumerate(files):
            store[row] = np.asarray(load_image(file).resize((STORED_SIDE, STORED_SIDE)))
        store.flush()
        partial.rename(target)
    opened: NDArray[np.uint8] = np.load(target, mmap_mode="r")
    return opened


@dataclass(frozen=True)
class Crop:
    """A crop (x1, y1, x2, y2) in 0..1 of a picture, mirrored or not."""

    x1: float
    y1: float
    x2: float
    y2: float
    mirrored: bool

    def place(self, box: NormalizedBox) -> tuple[NormalizedBox, float]:
        """The box as the crop shows it (0..1 of the crop), and the share of its area that is left."""
        width, height = self.x2 - self.x1, self.y2 - self.y1
        x1, x2 = ((side - self.x1) / width for side in (box[0], box[2]))
        y1, y2 = ((side - self.y1) / height for side in (box[1], box[3]))
        if self.mirrored:
            x1, x2 = 1 - x2, 1 - x1
        clipped = (min(max(x1, 0), 1), min(max(y1, 0), 1), min(max(x2, 0), 1), min(max(y2, 0), 1))
        area = max((x2 - x1) * (y2 - y1), 1e-9)
        return clipped, (clipped[2] - clipped[0]) * (clipped[3] - clipped[1]) / area


WHOLE = Crop(0.0, 0.0, 1.0, 1.0, False)


def random_crop(generator: np.random.Generator, least: float = 0.6) -> Crop:
    """Half are the whole picture, the others keep at least `least` of each side; half are mirrored."""
    mirrored = bool(generator.random() < 0.5)
    if generator.random() < 0.5:
        return Crop(0.0, 0.0, 1.0, 1.0, mirrored)
    width, height = generator.uniform(least, 1, 2)
    x, y = generator.uniform(0, 1 - width), generator.uniform(0, 1 - height)
    return Crop(float(x), float(y), float(x + width), float(y + height), mirrored)


SIDES = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
SIDE_WORDS = re.compile(r"\b(?:left|right|Left|Right)\b")


def mirror_words(text: str) -> str:
    """Swaps left and right, as a mirrored picture needs.

    Example:
        >>> mirror_words("the man on the left")
        'the man on the right'
    """
    return SIDE_WORDS.sub(lambda match: SIDES[match.group()], text)


class PixelStore(Protocol):
    """Squashed pictures by row, uint8 [224, 224, 3] each: an array, or several behind each other."""

    def __getitem__(self, row: int, /) -> NDArray[np.uint8]:
        """A picture."""


@dataclass(frozen=True)
class CroppedPictures:
    """Crops of stored pictures that are not resampled yet: small to hand on, and resampled where the model is.

    Attributes:
        stored: uint8 [B, 224, 224, 3].
        transforms: float [B, 2, 3], from the crop's coordinates to the picture's, both in -1..1.
        jitter: float [B, 2], contrast and brightness factors; None leaves colours alone.
        side: side of the result, in pixels.
    """

    stored: Tensor
    transforms: Tensor
    jitter: Tensor | None
    side: int

    def pixels(self) -> Tensor:
        """Float32 [B, 3, side, side] in -1..1, channels last in memory."""
        values = (self.stored.permute(0, 3, 1, 2).float() - 127) / 128
        size = [len(values), 3, self.side, self.side]
        grid = functional.affine_grid(self.transforms, size, align_corners=False)
        values = functional.grid_sample(values, grid, padding_mode="border", align_corners=False)
        if self.jitter is not None:
            contrast, brightness = self.jitter[:, :, None, None, None].unbind(1)
            values = (values * contrast + brightness).clamp(-1, 1)
        return values.contiguous(memory_format=torch.channels_last)


def cropped(
    store: PixelStore,
    rows: Sequence[int],
    crops: Sequence[Crop],
    side: int,
    jitter: Tensor | None = None,
) -> CroppedPictures:
    """Crops of stored pictures.

    Args:
        store: uint8 [n, 224, 224, 3].
        rows: which pictures.
        crops: one for each.
        side: side of what they are resampled to, in pixels.
        jitter: float [B, 2], contrast and brightness factors; None leaves colours alone.
    """
    transforms = []
    for crop in crops:
        width, height = crop.x2 - crop.x1, crop.y2 - crop.y1
        sign = -1.0 if crop.mirrored else 1.0
        transforms.append([[sign * width, 0.0, crop.x1 + crop.x2 - 1], [0.0, height, crop.y1 + crop.y2 - 1]])
    stored = torch.from_numpy(np.stack([store[row] for row in rows]))
    return CroppedPictures(stored, torch.tensor(transforms), jitter, side)


def crop_pixels(
    store: PixelStore,
    rows: Sequence[int],
    crops: Sequence[Crop],
    side: int,
    jitter: Tensor | None = None,
) -> Tensor:
    """Crops of stored pictures, resampled: `cropped(...).pixels()`."""
    return cropped(store, rows, crops, side, jitter).pixels()
