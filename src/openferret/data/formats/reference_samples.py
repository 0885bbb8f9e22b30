"""Samples <-> the reference's training json, without loss either way.

A record has `id, image, image_w, image_h, conversations, box_x1y1x2y2, masks`, with `<bbox_locationN>` numbered
within each turn (see `formats.reference_json`, which makes training items of it). What it cannot say of a sample
stands under one more key, `openferret`, that other readers of the format pass over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from openferret.checks import shorten
from openferret.data.files.json_stream import first_character, stream_items, write_list
from openferret.data.marks import MarkKind, escape_marks, find_marks, replace_marks
from openferret.data.outlines import RunLengths
from openferret.data.problems import Problems
from openferret.data.schema import PictureReference, Provenance, Sample, Turn
from openferret.errors import InputError
from openferret.prompts import IMAGE_TOKEN
from openferret.regions import Box, region_mask

_PLACEHOLDER = re.compile(r"<bbox_location(\d{1,6})>")
_PICTURE_FIRST = f"{IMAGE_TOKEN}\n"
_SPEAKERS = ("human", "gpt")
_KEYS = ("id", "image", "image_w", "image_h", "conversations", "box_x1y1x2y2", "masks")
_OWN_KEY = "openferret"
_OTHERWISE = "reference"  # in a sample's `extra`: how a record differs from one that is written anew


def to_reference(sample: Sample, plain: bool = False) -> dict[str, Any]:
    r"""A sample as a record of the reference's training json.

    Args:
        sample: any; of a region that is no box the record has the box round it and its mask.
        plain: leave out the key `openferret`; then only a sample that `from_reference` made comes back equal.

    Raises:
        InputError: words that the format would read as a placeholder.

    >>> turns = (Turn("user", "What is <region:0>?"), Turn("assistant", "A cat."))
    >>> record = to_reference(Sample("1", PictureReference("1.jpg", 9, 9, "", "1"), turns, (Box(1, 2, 3, 4),)))
    >>> record["conversations"][0]["value"], record["box_x1y1x2y2"]
    ('<image>\nWhat is <bbox_location0>?', [[[1, 2, 3, 4]], []])
    """
    named = [sorted({index for _, index in find_marks(turn.text)}) for turn in sample.turns]
    record: dict[str, Any] = {"id": sample.id}
    if sample.picture is not None:
        record["image"] = sample.picture.file
        if sample.picture.known_size:
            record |= {"image_w": sample.picture.width, "image_h": sample.picture.height}
            record["box_x1y1x2y2"] = [[_corners(sample, index) for index in turn] for turn in named]
            masks = [_masks(sample, turn) for turn in named]
            if any(masks):
                record["masks"] = masks
    texts = [
        _value(sample, turn.text, turn_named) for turn, turn_named in zip(sample.turns, named, strict=True)
    ]
    if sample.picture is not None and not any(IMAGE_TOKEN in text for text in texts):
        texts[0] = _PICTURE_FIRST + texts[0]
    record["conversations"] = [
        {"from": _SPEAKERS[number % 2], "value": text} for number, text in enumerate(texts)
    ]
    otherwise = sample.extra.get(_OTHERWISE)
    if isinstance(otherwise, Mapping):
        record |= otherwise.get("with") or {}
        if otherwise.get("without_boxes") and not sample.regions:
            record.pop("box_x1y1x2y2", None)
    return record if plain or _says_all(record, sample) else record | {_OWN_KEY: sample.to_dict()}


def from_reference(record: Mapping[str, Any]) -> Sample:
    r"""A record of the reference's training json as a sample.

    The key `openferret` is believed if the rest of the record still says the same; if somebody has edited the rest,
    it is read anew, and only where it is from, its task and whether it is negative are taken from there.

    Args:
        record: as `json` reads it.

    Raises:
        InputError: a record that is not of this form, with its id.

    >>> said = [{"from": "human", "value": "<image>\nWhere is the cat?"}, {"from": "gpt", "value": "<bbox_location0>"}]
    >>> record = {"id": 7, "image": "1.jpg", "image_w": 9, "image_h": 9, "conversations": said}
    >>> from_reference(record | {"box_x1y1x2y2": [[], [[1, 2, 3, 4]]]}).turns[1].text
    '<box:0>'
    """
    if not isinstance(record, Mapping):
        raise InputError(f"a sample must be a JSON object, not {shorten(repr(record))}")
    rest = {key: value for key, value in record.items() if key != _OWN_KEY}
    if _OWN_KEY not in record:
        return _named_errors(rest)
    kept = Sample.from_dict(record[_OWN_KEY])
    if to_reference(kept, plain=True) == rest:
        return kept
    return replace(_named_errors(rest), provenance=kept.provenance, task=kept.task, negative=kept.negative)


def read_reference(path: Path, problems: Problems) -> Iterator[Sample]:
    """The samples of a file of the reference's training json, one after the other.

    Args:
        path: of the json file, a list.
        problems: is told of records that are not of this form.

    Raises:
        InputError: the file cannot be read, or is no list.
    """
    if first_character(path) != "[":
        raise InputError(f"{path} should hold a list of samples")
    for number, record in enumerate(stream_items(path, "item", problems)):
        try:
            yield from_reference(record)
        except InputError as error:
            problems.add("malformed sample", f"{path.name} sample {number}", str(error))


def write_reference(path: Path, samples: Iterable[Sample], plain: bool = False) -> int:
    """Writes samples as a file of the reference's training json, whole or not at all; returns how many.

    Raises:
        InputError: the file cannot be written, or a sample not put so.
    """
    return write_list(path, (to_reference(sample, plain) for sample in samples))


def _says_all(record: Mapping[str, Any], sample: Sample) -> bool:
    try:
        return _from_plain(record) == sample
    except (InputError, KeyError):
        return False


def _value(sample: Sample, text: str, named: Sequence[int]) -> str:
    if _PLACEHOLDER.search(text):
        raise InputError(
            f"sample {shorten(sample.id)}: its words have <bbox_locationN>, which the reference's json would take "
            "for a box"
        )
    return replace_marks(text, lambda _, index: f"<bbox_location{named.index(index)}>")


def _corners(sample: Sample, index: int) -> list[float | int]:
    region = sample.regions[index]
    # A box is kept as it is, also where it reaches beyond the picture.
    box = region if isinstance(region, Box) else sample.box(index)
    return [int(side) if side.is_integer() else side for side in (box.x1, box.y1, box.x2, box.y2)]


def _masks(sample: Sample, named: Sequence[int]) -> list[dict[str, Any]]:
    masks = [_mask(sample, index) for index in named]
    while masks and masks[-1] is None:
        masks.pop()
    return [
        (_filled(sample, index) if mask is None else mask).to_dict()
        for index, mask in zip(named, masks, strict=False)
    ]


def _mask(sample: Sample, index: int) -> RunLengths | None:
    known = sample.mask(index)
    return known if known is not None or isinstance(sample.regions[index], Box) else _filled(sample, index)


def _filled(sample: Sample, index: int) -> RunLengths:
    """What a region covers; the format has no way to leave out a mask before one that is there."""
    picture = sample.picture
    width, height = (0, 0) if picture is None else (picture.width, picture.height)
    return RunLengths.of(region_mask(sample.regions[index], width, height, max_side=max(width, height)))


def _named_errors(record: Mapping[str, Any]) -> Sample:
    try:
        return _from_plain(record)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as problem:
        if isinstance(problem, InputError) and str(problem).startswith("sample "):
            raise
        reason = f"it has no {problem.args[0]!r}" if isinstance(problem, KeyError) else shorten(problem, 160)
        raise InputError(f"sample {shorten(record.get('id', 'without an id'))}: {reason}") from None


def _from_plain(record: Mapping[str, Any]) -> Sample:
    image = record.get("image")
    picture = None
    if image is not None:
        width, height = (record["image_w"], record["image_h"]) if "image_w" in record else (0, 0)
        picture = PictureReference(image, width, height, "", Path(str(image)).stem)
    regions: list[Box] = []
    masks: list[RunLengths | None] = []
    turns = []
    for number, turn in enumerate(record["conversations"]):
        if turn["from"] != _SPEAKERS[number % 2]:
            raise InputError(
                f"turn {number} should be the {_SPEAKERS[number % 2]}'s, but is from {shorten(turn['from'])!r}"
            )
        boxes, segments = _of_turn(record, "box_x1y1x2y2", number), _of_turn(record, "masks", number)
        if len(segments) > len(boxes):
            raise InputError(f"turn {number} has {len(segments)} masks for {len(boxes)} boxes")
        text = _marked(turn["value"], "box" if number % 2 else "region", len(regions), len(boxes))
        if not number and picture is not None:
            text = text.removeprefix(_PICTURE_FIRST)
        turns.append(Turn("assistant" if number % 2 else "user", text))
        regions += [Box(*box) for box in boxes]
        masks += [
            RunLengths.from_dict(segments[place]) if place < len(segments) else None
            for place in range(len(boxes))
        ]
    negative, task = False, "dialogue"
    sample = Sample(
        str(record["id"]), picture, tuple(turns), tuple(regions), tuple(masks), Provenance(), negative, task
    )
    return replace(sample, extra=_otherwise(record, sample))


def _marked(value: str, kind: MarkKind, start: int, count: int) -> str:
    def mark(match: re.Match[str]) -> str:
        if int(match[1]) >= count:
            raise InputError(f"<bbox_location{match[1]}> has no box")
        return f"<{kind}:{start + int(match[1])}>"

    return _PLACEHOLDER.sub(mark, escape_marks(value))


def _of_turn(record: Mapping[str, Any], key: str, number: int) -> Sequence[Any]:
    nested = record.get(key)
    inner = nested[number] if nested and number < len(nested) else []
    if not isinstance(inner, list):
        raise InputError(f"{key} should be a list for each turn, not {shorten(repr(inner))}")
    return inner


def _otherwise(record: Mapping[str, Any], sample: Sample) -> dict[str, Any]:
    """What keeps the record from being written anew as it is: an id that is no text, keys of others."""
    kept = {key: value for key, value in record.items() if key not in _KEYS}
    if not isinstance(record["id"], str):
        kept["id"] = record["id"]
    if not sample.masks and "masks" in record:
        kept["masks"] = record["masks"]
    differences: dict[str, Any] = {"with": kept} if kept else {}
    if "box_x1y1x2y2" not in record and sample.picture is not None and sample.picture.known_size:
        differences["without_boxes"] = True
    return {_OTHERWISE: differences} if differences else {}
