"""How other models write boxes, turned into the form that `openferret.answer` reads.

The field has no standard. `ferret`: `a dog [10, 20, 300, 400]` in 0..999. `qwen`: JSON objects
`{"bbox_2d": [x1, y1, x2, y2], "label": "a dog"}` in 0..1000. `kosmos`:
`<phrase>a dog</phrase><object><patch_index_0044><patch_index_0863></object>`, cells of a 32 x 32 grid.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from openferret.answer import Answer, parse_answer
from openferret.coordinates import BINS, format_bins_tokens

_NUMBER = r"\s*(-?[0-9]{1,7}(?:\.[0-9]{0,9})?)\s*"
_OBJECT = re.compile(r"\{[^{}]{0,2000}\}")
_BBOX = re.compile(rf'"bbox_2d"\s*:\s*\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]')
_LABEL = re.compile(r'"label"\s*:\s*"((?:[^"\\]|\\.){0,500})"')
_FENCE = re.compile(r"```(?:json)?|[\[\]],?\s*$|^\s*\[", re.MULTILINE)
_PATCHES = re.compile(r"<object>((?:<patch_index_[0-9]{4}>|</delimiter_of_multi_objects/>)+)</object>")
_INDEX = re.compile(r"<patch_index_([0-9]{4})>")
_CELLS = 32


def read_qwen(raw: str, width: int, height: int) -> Answer:
    """Objects with `bbox_2d` and `label`, 0..1000, wherever they stand in the text.

    >>> answer = read_qwen('[{"bbox_2d": [0, 0, 500, 1000], "label": "a dog"}]', 640, 480)
    >>> answer.text, answer.mentions[0].phrase, answer.mentions[0].boxes[0].normalized
    ('a dog', 'a dog', (0.0005, 0.0005, 0.5005, 0.9995))
    """

    def rewrite(match: re.Match[str]) -> str:
        box, label = _BBOX.search(match.group()), _LABEL.search(match.group())
        if box is None:
            return match.group()
        bins = [min(max(math.floor(float(number)), 0), BINS - 1) for number in box.groups()]
        return f"<phrase>{label[1] if label else ''}<box>{format_bins_tokens(bins)} "

    written = _OBJECT.sub(rewrite, raw)
    return parse_answer(_FENCE.sub(" ", written) if written != raw else raw, width, height)


def read_kosmos(raw: str, width: int, height: int) -> Answer:
    """Phrases followed by pairs of cells, upper left and lower right, whose outer corners make the box.

    >>> raw = "<phrase>a dog</phrase><object><patch_index_0000><patch_index_0495></object> sits"
    >>> answer = read_kosmos(raw, 640, 480)
    >>> answer.text, answer.mentions[0].boxes[0].normalized
    ('a dog sits', (0.0005, 0.0005, 0.5005, 0.5005))
    """

    def rewrite(match: re.Match[str]) -> str:
        cells = [int(index) for index in _INDEX.findall(match[1])]
        boxes = ""
        for first, last in zip(cells[::2], cells[1::2], strict=False):
            corners = (first % _CELLS, first // _CELLS, last % _CELLS + 1, last // _CELLS + 1)
            boxes += "<box>" + format_bins_tokens(
                [min(corner * BINS // _CELLS, BINS - 1) for corner in corners]
            )
        return boxes

    return parse_answer(_PATCHES.sub(rewrite, raw), width, height)


DIALECTS: Mapping[str, Callable[[str, int, int], Answer]] = {
    "ferret": parse_answer,
    "qwen": read_qwen,
    "kosmos": read_kosmos,
}
