"""The reference's training json: conversations with boxes and masks -> items a model can be trained on.

A file is a list of samples: `image, image_w, image_h, conversations [{from, value}]`, `box_x1y1x2y2` (for each
turn, for each `<bbox_locationN>` of it, a box in pixels) and optionally `masks` (nested likewise, COCO RLE). A
human turn refers to its regions by point or by box, one flip of a coin for the turn; an answer names boxes.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from openferret import prompts
from openferret.coordinates import format_bins_text, to_bin
from openferret.errors import InputError
from openferret.masks import decode_rle
from openferret.processing.processor import escape_text
from openferret.processing.reference import coordinates_mask

PointStyle: TypeAlias = Literal["center", "uniform", "gaussian"]
BoolArray: TypeAlias = NDArray[np.bool_]
T = TypeVar("T")

_PLACEHOLDER = re.compile(r"<bbox_location(\d{1,6})>")
_CANDIDATES = 1000
_SPREAD = 0.15  # standard deviation of a drawn point, in sides of its box


@dataclass(frozen=True)
class TrainingItem:
    """A conversation about one picture.

    Attributes:
        image: the picture's file, as the sample names it; None for a conversation without one.
        turns: questions and answers in turn; a question has `<region_fea>` where a region is referred to. The
            sample's own words are escaped (`openferret.processing.processor.escape_text`).
        masks: for each `<region_fea>` in order, bool [h, w].
    """

    image: str | None
    turns: tuple[tuple[str, str], ...]
    masks: tuple[BoolArray, ...]


def read_items(
    path: Path, point_style: PointStyle = "center", generator: random.Random | None = None
) -> Iterator[TrainingItem]:
    """Reads a file of samples.

    Args:
        path: the json file.
        point_style: which point of a region a question refers to: of up to 1000 of its pixels the one nearest
            to the box's centre, any, or the one nearest to a Gaussian draw.
        generator: decides between points and boxes, and draws points.

    Raises:
        InputError: a file or a sample that is not of this form; the sample's place is named.
    """
    try:
        samples = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise InputError(f"{path} cannot be read: {problem}") from problem
    if not isinstance(samples, list):
        raise InputError(f"{path} should hold a list of samples")
    chance = generator or random.Random(0)
    for number, sample in enumerate(samples):
        try:
            yield expand_sample(sample, point_style, chance)
        except (KeyError, TypeError, IndexError, ValueError) as problem:
            raise InputError(f"sample {number} of {path} cannot be used: {problem}") from problem


def expand_sample(
    sample: Mapping[str, Any], point_style: PointStyle, generator: random.Random
) -> TrainingItem:
    """One sample, its placeholders replaced by coordinates and region features.

    Args:
        sample: as in the file.
        point_style: see `read_items`.
        generator: see `read_items`.

    Raises:
        InputError: turns that do not alternate, or an empty answer.
    """
    turns, masks = [], []
    for index, turn in enumerate(sample["conversations"]):
        speaker = ("human", "gpt")[index % 2]
        if turn["from"] != speaker:
            raise InputError(f"turn {index} should be the {speaker}'s, but is from {turn['from']!r}")
        text = escape_text(turn["value"].replace("<image>", "").strip())
        boxes = _of_turn(sample.get("box_x1y1x2y2"), index)
        points = speaker == "human" and bool(boxes) and generator.random() < 0.5
        segments = _of_turn(sample.get("masks"), index)
        words = []
        for number, raw in enumerate(boxes):
            width, height = int(sample["image_w"]), int(sample["image_h"])
            box = _on_picture(raw, width, height)
            if speaker == "gpt":
                words.append(_coordinates(box, width, height))
                continue
            segment = decode_rle(segments[number]) if number < len(segments) else None
            place = draw_point(box, segment, point_style, generator) if points else box
            words.append(f"{_coordinates(place, width, height)} {prompts.REGION_TOKEN}")
            whole = coordinates_mask(box, width, height) if segment is None else segment
            masks.append(_within(coordinates_mask(place, width, height), whole))
        turns.append(_filled(text, words))
    if len(turns) % 2 or not all(turns):
        raise InputError("a conversation needs an answer to every question, and neither may be empty")
    image = sample.get("image")
    return TrainingItem(image, tuple(zip(turns[::2], turns[1::2], strict=True)), tuple(masks))


def draw_point(
    box: Sequence[float], mask: BoolArray | None, style: PointStyle, generator: random.Random
) -> tuple[float, float]:
    """A point of a region, in pixels.

    Args:
        box: of the region, x1, y1, x2, y2.
        mask: bool [h, w]; without one, or with an empty one, the point is a Gaussian draw in the box.
        style: see `read_items`.
        generator: of the draws.
    """
    x1, y1, x2, y2 = box
    pixels = np.argwhere(mask.T) if mask is not None else np.empty((0, 2), np.int64)
    if not len(pixels):
        return _gaussian(box, generator)
    chosen = pixels[[generator.randrange(len(pixels)) for _ in range(min(_CANDIDATES, len(pixels)))]]
    if style == "uniform":
        best = chosen[0]
    else:
        centre = ((x1 + x2) / 2, (y1 + y2) / 2)
        goal = centre if style == "center" else _gaussian(box, generator)
        best = chosen[((chosen - np.array(goal)) ** 2).sum(1).argmin()]
    return float(best[0]), float(best[1])


def resample(items: Sequence[T], times: float, generator: random.Random) -> list[T]:
    """A list as often as a mixture asks for: whole copies, and a random part of one, drawn with repeats.

    Example:
        >>> resample([1, 2], 2, random.Random(0))
        [1, 2, 1, 2]
    """
    copies = int(times)
    rest = int((times - copies) * len(items) + 1e-9)
    return [*items] * copies + [generator.choice(items) for _ in range(rest)]


def _gaussian(box: Sequence[float], generator: random.Random) -> tuple[float, float]:
    x1, y1, x2, y2 = box
    while True:
        x = generator.gauss((x1 + x2) / 2, _SPREAD * (x2 - x1))
        y = generator.gauss((y1 + y2) / 2, _SPREAD * (y2 - y1))
        if x1 <= x <= x2 and y1 <= y <= y2:
            return x, y


def _within(shape: BoolArray, whole: BoolArray) -> BoolArray:
    """The part of a point's window or of a box that is the object; all of it where they do not meet."""
    if shape.shape != whole.shape:
        raise InputError(f"a mask is {whole.shape[::-1]} pixels, but its picture {shape.shape[::-1]}")
    part: BoolArray = shape & whole
    return part if part.any() else shape


def _on_picture(box: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = map(float, box)

    def inside(value: float, size: int) -> float:
        return min(max(value, 0), size - 1)

    return inside(x1, width), inside(y1, height), inside(x2, width), inside(y2, height)


def _coordinates(numbers: Sequence[float], width: int, height: int) -> str:
    sizes = (width, height) * (len(numbers) // 2)
    return format_bins_text([to_bin(value, size) for value, size in zip(numbers, sizes, strict=True)])


def _of_turn(nested: Any, index: int) -> Sequence[Any]:
    return nested[index] if nested and index < len(nested) else ()


def _filled(text: str, words: Sequence[str]) -> str:
    def word(match: re.Match[str]) -> str:
        if int(match[1]) >= len(words):
            raise InputError(f"<bbox_location{match[1]}> has no box")
        return words[int(match[1])]

    return _ESCAPED.sub(word, text)


_ESCAPED = re.compile(_PLACEHOLDER.pattern.replace("<", escape_text("<")))
