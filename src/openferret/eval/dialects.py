"""How other models write boxes, turned into the form that `openferret.answer` gives.

The field has no standard. `ferret`: `a dog [10, 20, 300, 400]` in 0..999. `qwen` (Qwen3-VL): JSON objects
`{"bbox_2d": [x1, y1, x2, y2], "label": "a dog"}` in 0..1000; `qwen2.5`: the same in pixels of the picture as
the model is shown it. `kosmos`: `<phrase>a dog</phrase><object><patch_index_0044><patch_index_0863></object>`,
cells of a 32 x 32 grid. `florence`: `a dog<loc_10><loc_20><loc_300><loc_400>`, the middles of 1000 bins.

A box without area is dropped; the words stay. Every reader is linear in the answer's length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from openferret.answer import Answer, LocatedBox, Mention, parse_answer
from openferret.coordinates import denormalize_box
from openferret.eval.files import sound_unicode
from openferret.eval.metrics.boxes import BoxNumbers, area

Reader: TypeAlias = Callable[[str, int, int], Answer]
Piece: TypeAlias = tuple[str, Sequence[BoxNumbers] | None]
"""Words, and for a phrase its boxes in 0..1; None for words between phrases."""

_NUMBER = r"\s{0,99}(-?[0-9]{1,7}(?:\.[0-9]{0,9})?)\s{0,99}"
_OBJECT = re.compile(r"\{[^{}]{0,2000}\}")
_BBOX = re.compile(rf'"bbox_2d"\s{{0,99}}:\s{{0,99}}\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]')
_LABEL = re.compile(r'"label"\s{0,99}:\s{0,99}"((?:[^"\\]|\\.){0,500})"')
_JSON_MARKS = re.compile(r"```(?:json)?|[\[\],]")
_ENTITY = re.compile(
    r"(?:<phrase>([^<]{0,500})</phrase>)?\s{0,9}"
    r"<object>((?:\s?<patch_index_[0-9]{4}>|\s?</delimiter_of_multi_objects/>)+)\s?</object>"
)
_CELL = re.compile(r"<patch_index_([0-9]{4})>")
_CELLS = 32
_LOCATIONS = re.compile(r"(?:<loc_[0-9]{1,4}>){4,}")
_LOCATION = re.compile(r"<loc_([0-9]{1,4})>")
_LOCATION_BINS = 1000
_TAG = re.compile(r"<[^<>]{0,60}>")


def read_qwen(raw: str, width: int, height: int, space: tuple[int, int] = (1000, 1000)) -> Answer:
    """Objects with `bbox_2d` and `label`, wherever they stand in the text.

    Args:
        raw: the model's words.
        width: of the picture in pixels.
        height: of the picture in pixels.
        space: what stands for the picture's width and height in the boxes.

    >>> answer = read_qwen('[{"bbox_2d": [0, 0, 500, 1000], "label": "a dog"}]', 640, 480)
    >>> answer.text, answer.mentions[0].phrase, answer.mentions[0].boxes[0].normalized
    ('a dog', 'a dog', (0.0, 0.0, 0.5, 1.0))
    """

    def pieces() -> Iterator[Piece]:
        position = 0
        for match in _OBJECT.finditer(raw):
            box = _BBOX.search(match.group())
            if box is not None:
                label = _LABEL.search(match.group())
                between = _JSON_MARKS.sub(" ", raw[position : match.start()]).strip()
                yield (between or ("," if position else "")), None
                x1, y1, x2, y2 = (float(number) for number in box.groups())
                yield (
                    (_unescape(label[1]) if label else ""),
                    [_clip((x1 / space[0], y1 / space[1], x2 / space[0], y2 / space[1]))],
                )
                position = match.end()
        yield (_JSON_MARKS.sub(" ", raw[position:]) if position else raw), None

    return assemble(pieces(), width, height)


def _unescape(label: str) -> str:
    r"""JSON's text without its quotes as what it says; as it stands if it is none.

    >>> _unescape('a \\"red\\" caf\\u00e9')
    'a "red" café'
    """
    try:
        return str(sound_unicode(json.loads(f'"{label}"', strict=False)))
    except ValueError:
        return label


def read_kosmos(raw: str, width: int, height: int) -> Answer:
    """Phrases followed by pairs of cells, upper left and lower right.

    A box goes from the middle of one cell to the middle of the other, or round both if they share a row or a
    column, as Kosmos-2's own reader has it.

    >>> raw = "<phrase>a dog</phrase><object><patch_index_0000><patch_index_0495></object> sits"
    >>> answer = read_kosmos(raw, 640, 480)
    >>> answer.text, answer.mentions[0].boxes[0].normalized
    ('a dog sits', (0.015625, 0.015625, 0.484375, 0.484375))
    """

    def pieces() -> Iterator[Piece]:
        position = 0
        for match in _ENTITY.finditer(raw):
            yield _TAG.sub("", raw[position : match.start()]), None
            cells = [int(index) for index in _CELL.findall(match[2])]
            yield (
                match[1] or "",
                [_cells_to_box(*pair) for pair in zip(cells[::2], cells[1::2], strict=False)],
            )
            position = match.end()
        yield _TAG.sub("", raw[position:]), None

    return assemble(pieces(), width, height)


def read_florence(raw: str, width: int, height: int) -> Answer:
    """Phrases followed by four bins, or several times four.

    >>> answer = read_florence("</s><s>a dog<loc_0><loc_0><loc_499><loc_999></s>", 640, 480)
    >>> answer.text, answer.mentions[0].boxes[0].normalized
    ('a dog', (0.0005, 0.0005, 0.4995, 0.9995))
    """

    def pieces() -> Iterator[Piece]:
        position = 0
        for match in _LOCATIONS.finditer(raw):
            edges = [(int(bin_) + 0.5) / _LOCATION_BINS for bin_ in _LOCATION.findall(match.group())]
            fours = zip(edges[::4], edges[1::4], edges[2::4], edges[3::4], strict=False)
            if position:
                yield ",", None
            yield _TAG.sub("", raw[position : match.start()]), [_clip(four) for four in fours]
            position = match.end()
        yield _TAG.sub("", raw[position:]), None

    return assemble(pieces(), width, height)


def assemble(pieces: Iterable[Piece], width: int, height: int) -> Answer:
    """Words and phrases in order -> an answer about a picture of that size; boxes without area are dropped.

    >>> assemble([("there is", None), ("a dog", [(0, 0, 1, 1)]), (".", None)], 10, 10).text
    'there is a dog.'
    """
    parts: list[str] = []
    length = 0
    mentions = []
    for words, boxes in pieces:
        plain = " ".join(words.split())
        if not plain and boxes is None:
            continue
        if parts and plain and plain[0] not in ".,;:!?":
            parts.append(" ")
            length += 1
        parts.append(plain)
        if boxes is not None:
            located = [
                LocatedBox.of(denormalize_box(box, width, height), width, height)
                for box in boxes
                if area(box)
            ]
            mentions.append(Mention(plain, (length, length + len(plain)), tuple(located)))
        length += len(plain)
    return Answer("".join(parts), tuple(mentions), width, height)


def place_in(caption: str, found: Answer) -> Answer:
    """A caption with the mentions of another answer that stand in it, in order; a word is taken once.

    For models that write a caption first and say where its things are when asked again.

    >>> place_in("A dog and a dog.", assemble([("a dog", [(0, 0, 1, 1)])], 9, 9)).mentions[0].span
    (0, 5)
    """
    lowered = caption.lower()
    # Letters whose lower case is longer than they are would shift what comes after.
    text = lowered if len(lowered) == len(caption) else caption
    position, mentions = 0, []
    for one in found.mentions:
        start = text.find(one.phrase.lower(), position) if one.phrase else -1
        if start >= 0:
            position = start + len(one.phrase)
            mentions.append(Mention(caption[start:position], (start, position), one.boxes))
    return Answer(caption, tuple(mentions), found.width, found.height)


def box_to_cells(box: BoxNumbers) -> tuple[int, int]:
    """A box in 0..1 -> the cells of its corners, as Kosmos-2 is told of a region.

    >>> box_to_cells((0.0, 0.0, 0.5, 0.5))
    (0, 495)
    """
    first = [min(int(value * _CELLS), _CELLS - 1) for value in box[:2]]
    last = [max(-int(-value * _CELLS // 1) - 1, one) for value, one in zip(box[2:], first, strict=True)]
    return first[1] * _CELLS + first[0], min(last[1], _CELLS - 1) * _CELLS + min(last[0], _CELLS - 1)


def _cells_to_box(first: int, last: int) -> BoxNumbers:
    x1, y1, x2, y2 = first % _CELLS, first // _CELLS, last % _CELLS, last // _CELLS
    start, end = (0.0, 1.0) if x1 == x2 or y1 == y2 else (0.5, 0.5)
    return _clip(((x1 + start) / _CELLS, (y1 + start) / _CELLS, (x2 + end) / _CELLS, (y2 + end) / _CELLS))


def _clip(box: BoxNumbers) -> BoxNumbers:
    x1, y1, x2, y2 = (min(max(value, 0.0), 1.0) for value in box)
    return x1, y1, x2, y2


def _read_pixels(raw: str, width: int, height: int) -> Answer:
    return read_qwen(raw, width, height, (width, height))


DIALECTS: Mapping[str, Reader] = {
    "ferret": parse_answer,
    "qwen": read_qwen,
    "qwen2.5": _read_pixels,
    "kosmos": read_kosmos,
    "florence": read_florence,
}
PIXELS = frozenset({"qwen2.5"})
"""Dialects whose boxes cannot be read without the picture's size."""
