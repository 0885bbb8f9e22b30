"""A panel: pictures kept back with the boxes that the model gives now, and where they should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from openferret.answer import Answer
from openferret.drawing import draw_answer
from openferret.regions import Box

_WIDTH, _GAP = 480, 12
_PAPER = "#ffffff"


@dataclass(frozen=True)
class PanelPicture:
    """One picture of a panel.

    Attributes:
        image: upright RGB.
        answer: what the model says of it.
        truth: the boxes that it should have given, in pixels: drawn in yellow.
        title: above the answer.
    """

    image: Image.Image
    answer: Answer
    truth: tuple[Box, ...]
    title: str


def draw_panel(pictures: Sequence[PanelPicture], columns: int = 4) -> Image.Image:
    """Pictures in rows, each with its boxes and the answer below it.

    Args:
        pictures: at least one.
        columns: in a row.

    Returns:
        An RGB picture, as high as it needs to be.
    """
    tiles = []
    for one in pictures:
        drawn = draw_answer(one.image, one.answer, one.truth, title=one.title)
        height = max(1, round(drawn.height * _WIDTH / drawn.width))
        tiles.append(drawn.resize((_WIDTH, height), Image.Resampling.LANCZOS))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [max(tile.height for tile in row) for row in rows]
    across = min(columns, len(tiles))
    size = (across * (_WIDTH + _GAP) + _GAP, sum(heights) + (len(rows) + 1) * _GAP)
    panel = Image.new("RGB", size, _PAPER)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for number, tile in enumerate(row):
            panel.paste(tile, (_GAP + number * (_WIDTH + _GAP), top))
        top += height + _GAP
    return panel
