"""The best, the worst and random cases of a run as small pictures with their boxes drawn."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from openferret.errors import InputError
from openferret.eval.files import is_regular
from openferret.eval.metrics.boxes import BoxNumbers
from openferret.eval.scores import Case
from openferret.images import load_image

SIDE = 320
PREDICTED, TRUTH = (214, 39, 40), (31, 160, 64)
_LONGEST = 300


def make_gallery(
    cases: Sequence[Case], pictures: Mapping[str, Path], each: int = 6, seed: int = 0
) -> dict[str, list[dict[str, Any]]]:
    """`best`, `worst` and `random`: up to `each` cases, of different pictures where there are enough.

    Cases of the same value are in a seeded random order, so that neither end is the head of the file. A case
    whose picture cannot be read is shown without it.
    """
    shuffled = list(cases)
    random.Random(seed).shuffle(shuffled)
    chosen = {
        "best": sorted(shuffled, key=lambda case: -case.value),
        "worst": sorted(shuffled, key=lambda case: case.value),
        "random": shuffled,
    }
    return {
        name: [_shown(case, pictures.get(case.picture)) for case in _of_different_pictures(ordered, each)]
        for name, ordered in chosen.items()
    }


def draw_case(image: Image.Image, predicted: Iterable[BoxNumbers], truth: Iterable[BoxNumbers]) -> bytes:
    """A JPEG of at most 320 pixels a side: the truth green, predictions red; boxes in 0..1."""
    scale = min(1.0, SIDE / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(small)
    for boxes, colour, inset in ((truth, TRUTH, 0), (predicted, PREDICTED, 2)):
        for box in list(boxes)[:20]:
            corners = [
                _pixel(value, side, inset, end)
                for value, side, end in zip(box, size * 2, (0, 0, 1, 1), strict=True)
            ]
            if corners[0] <= corners[2] and corners[1] <= corners[3]:
                draw.rectangle(corners, outline=colour, width=2)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return file.getvalue()


def _pixel(value: float, side: int, inset: int, end: int) -> int:
    clamped = min(max(value, 0.0), 1.0) if value == value else 0.0
    return min(max(round(clamped * side) - end + (-inset if end else inset), 0), side - 1)


def _of_different_pictures(ordered: Sequence[Case], each: int) -> list[Case]:
    first: dict[str, Case] = {}
    for case in ordered:
        first.setdefault(case.picture, case)
    return list(first.values())[:each]


def _shown(case: Case, file: Path | None) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "question": case.question,
        "title": case.title[:_LONGEST],
        "said": case.said[:_LONGEST],
        "wanted": case.wanted[:_LONGEST],
        "value": round(case.value, 4),
    }
    if file is not None and is_regular(file):
        try:
            jpeg = draw_case(load_image(file), case.predicted, case.truth)
        except InputError as error:
            return {**shown, "problem": str(error)}
        shown["jpeg"] = base64.b64encode(jpeg).decode()
    return shown
