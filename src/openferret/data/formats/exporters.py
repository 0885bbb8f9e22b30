"""Samples for other trainers: json in the style of LLaVA, ms-swift and LLaMA-Factory; the space of boxes is stated.

Every record has `coordinates`, one of "pixels", "normalized 0..1" and "bins 0..999", and `image_size` in pixels. A
region that a person points at is written as its box, or a point as a point: these formats know no other shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from openferret.checks import shorten
from openferret.coordinates import box_to_bins, format_bins_text, normalize_box, to_bin
from openferret.data.files.atomic import write_json
from openferret.data.files.json_stream import write_list
from openferret.data.marks import MarkKind, find_marks, grounded_phrases, plain_text, replace_marks
from openferret.data.schema import Sample
from openferret.errors import InputError
from openferret.prompts import IMAGE_TOKEN
from openferret.regions import Point

Space: TypeAlias = Literal["pixels", "normalized", "bins"]
SPACES: Mapping[str, str] = MappingProxyType(
    {"pixels": "pixels", "normalized": "normalized 0..1", "bins": "bins 0..999"}
)
Exporter: TypeAlias = Callable[[Sample, Space], dict[str, Any]]


def to_llava(sample: Sample, space: Space = "bins") -> dict[str, Any]:
    r"""A record of LLaVA's list: `id, image, conversations`; boxes are written in the text.

    Args:
        sample: any.
        space: of the numbers: pixels, 0..1 with three decimals, or bins 0..999 as the paper has them.

    >>> from openferret.data.schema import PictureReference, Turn
    >>> from openferret.regions import Box
    >>> turns = (Turn("user", "Where is the cat?"), Turn("assistant", "A cat <box:0>."))
    >>> picture = PictureReference("1.jpg", 100, 50, "", "1")
    >>> to_llava(Sample("1", picture, turns, (Box(10, 20, 30, 40),)))["conversations"][1]["value"]
    'A cat [100, 400, 300, 800].'
    """
    texts = _texts(sample, lambda index: _written(sample, index, space), f"{IMAGE_TOKEN}\n")
    record = {"id": sample.id} | ({"image": sample.picture.file} if sample.picture else {})
    turns = zip(("human", "gpt") * len(texts), texts, strict=False)
    return {
        **record,
        "conversations": [{"from": speaker, "value": text} for speaker, text in turns],
        **_stated(sample, space),
    }


def to_llama_factory(sample: Sample, space: Space = "bins") -> dict[str, Any]:
    """A record of LLaMA-Factory's sharegpt form with `messages` and `images`; boxes are written in the text.

    `llama_factory_entry` is what its `dataset_info.json` needs beside the file.

    Args:
        sample: any.
        space: see `to_llava`.
    """
    texts = _texts(sample, lambda index: _written(sample, index, space), IMAGE_TOKEN)
    images = [sample.picture.file] if sample.picture else []
    return {"messages": _messages(texts), "images": images, "id": sample.id, **_stated(sample, space)}


def to_ms_swift(sample: Sample, space: Space = "pixels") -> dict[str, Any]:
    """A record of ms-swift's grounding form: `<ref-object>` and `<bbox>` in the text, filled from `objects`.

    ms-swift writes the boxes as the model that is trained wants them, so it is given pixels or 0..1, not bins.

    Args:
        sample: any.
        space: "pixels" (its `bbox_type` "real") or "normalized" ("norm1").

    Raises:
        InputError: bins are asked for, or words have a mark of ms-swift's.
    """
    if space == "bins":
        raise InputError("ms-swift takes boxes in pixels or normalized, and bins them itself")
    phrases: list[str] = []
    boxes: list[list[float]] = []
    texts = []
    for turn in sample.turns:
        if any(mark in plain_text(turn.text) for mark in ("<bbox>", "<ref-object>")):
            raise InputError(f"sample {shorten(sample.id)}: its words have a mark that ms-swift would fill")
        if turn.role == "user":
            texts.append(replace_marks(turn.text, lambda *_: "<bbox>"))
            boxes += [_numbers(sample, index, space) for _, index in find_marks(turn.text)]
            continue
        plain, pieces, end = plain_text(turn.text), [], 0
        for found in grounded_phrases(turn.text):
            pieces += [plain[end : found.span[0]], "<ref-object>" if found.phrase else ""]
            pieces += ["<bbox>"] * len(found.regions)
            phrases += [found.phrase] if found.phrase else []
            boxes += [_numbers(sample, index, space) for index in found.regions]
            end = found.span[1]
        texts.append("".join([*pieces, plain[end:]]))
    record: dict[str, Any] = {"messages": _messages(_with_picture(sample, texts, IMAGE_TOKEN))}
    record["images"] = [sample.picture.file] if sample.picture else []
    if boxes:
        kind = "real" if space == "pixels" else "norm1"
        record["objects"] = {"ref": phrases, "bbox": boxes, "bbox_type": kind}
    return record | {"id": sample.id} | _stated(sample, space)


def llama_factory_entry(name: str, file: str) -> dict[str, Any]:
    """The entry of `dataset_info.json` for a file of `to_llama_factory`.

    >>> llama_factory_entry("grit", "grit.json")["grit"]["columns"]
    {'messages': 'messages', 'images': 'images'}
    """
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    columns = {"messages": "messages", "images": "images"}
    return {name: {"file_name": file, "formatting": "sharegpt", "columns": columns, "tags": tags}}


_EXPORTERS: Mapping[str, tuple[Exporter, Space]] = MappingProxyType(
    {
        "llava": (to_llava, "bins"),
        "ms-swift": (to_ms_swift, "pixels"),
        "llama-factory": (to_llama_factory, "bins"),
    }
)
FORMS = tuple(_EXPORTERS)


def export_samples(path: Path, samples: Iterable[Sample], form: str, space: Space | None = None) -> int:
    """Writes samples as a JSON list that another trainer reads; beside LLaMA-Factory's its `dataset_info.json`.

    Args:
        path: of the json file; written whole or not at all.
        samples: in their order, one held at a time.
        form: "llava", "ms-swift" or "llama-factory".
        space: of the boxes; None for what is usual with the form.

    Returns:
        How many there were.

    Raises:
        InputError: an unknown form or space, or a file that cannot be written.
    """
    if form not in _EXPORTERS:
        raise InputError(f"{shorten(repr(form))} is no form; known are {', '.join(FORMS)}")
    write, usual = _EXPORTERS[form]
    chosen: Space = space or usual
    if chosen not in SPACES:
        raise InputError(f"{shorten(repr(space))} is no space of boxes; known are {', '.join(SPACES)}")
    count = write_list(path, (write(sample, chosen) for sample in samples))
    if form == "llama-factory":
        write_json(path.with_name("dataset_info.json"), llama_factory_entry(path.stem, path.name))
    return count


def _texts(sample: Sample, write: Callable[[int], str], picture: str) -> list[str]:
    def mark(_: MarkKind, index: int) -> str:
        return write(index)

    return _with_picture(sample, [replace_marks(turn.text, mark) for turn in sample.turns], picture)


def _with_picture(sample: Sample, texts: list[str], picture: str) -> list[str]:
    if sample.picture is not None and not any(IMAGE_TOKEN in text for text in texts):
        texts[0] = picture + texts[0]
    return texts


def _messages(texts: list[str]) -> list[dict[str, str]]:
    roles = zip(("user", "assistant") * len(texts), texts, strict=False)
    return [{"role": role, "content": text} for role, text in roles]


def _stated(sample: Sample, space: Space) -> dict[str, Any]:
    if sample.picture is None or not sample.picture.known_size:
        return {}
    return {"coordinates": SPACES[space], "image_size": [sample.picture.width, sample.picture.height]}


def _written(sample: Sample, index: int, space: Space) -> str:
    numbers = _numbers(sample, index, space)
    if space == "bins":
        return format_bins_text([int(number) for number in numbers])
    digits = 0 if space == "pixels" else 3
    return f"[{', '.join(f'{number:.{digits}f}' for number in numbers)}]"


def _numbers(sample: Sample, index: int, space: Space) -> list[float]:
    region, picture = sample.regions[index], sample.picture
    width, height = (0, 0) if picture is None else (picture.width, picture.height)
    if isinstance(region, Point):
        x, y = region.x, region.y
        if space == "bins":
            return [to_bin(x, width), to_bin(y, height)]
        return [x, y] if space == "pixels" else [x / width, y / height]
    box = sample.box(index)
    if space == "bins":
        return [*box_to_bins(box, width, height)]
    return [box.x1, box.y1, box.x2, box.y2] if space == "pixels" else [*normalize_box(box, width, height)]
