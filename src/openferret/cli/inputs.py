"""What a person typed, checked before a model is loaded."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openferret.errors import InputError
from openferret.masks import decode_rle, mask_from_png
from openferret.regions import Mask, Region, parse_box, parse_point, parse_polygon, parse_scribble

_REFERENCE = re.compile(r"\[(\d+)\]")
_LARGEST_JSON = 64 * 2**20


@dataclass(frozen=True)
class Pointed:
    """A region and the words it was typed in, such as `box 1,2,3,4`."""

    words: str
    region: Region


def read_regions(typed: Iterable[tuple[str, str]]) -> tuple[Pointed, ...]:
    """Read regions as typed: pairs of kind and text (`mask` takes a file), in order.

    Raises:
        InputError: A text that is not such a region, or a mask file that cannot be used.
    """
    return tuple(Pointed(f"{kind} {text}", _READERS[kind](text)) for kind, text in typed)


def read_mask(file: str) -> Mask:
    """Read a mask from a picture (non-zero, or opaque where it has alpha) or a `.json` with a COCO RLE."""
    path = Path(file)
    if path.suffix.lower() != ".json":
        return Mask(mask_from_png(file))
    try:
        if not path.is_file():
            raise InputError(f"{file!r} is not a file: give a PNG, or a COCO RLE as JSON")
        if path.stat().st_size > _LARGEST_JSON:
            raise InputError(f"{file!r} is larger than {_LARGEST_JSON >> 20} MB: give one mask a file")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{file!r} cannot be read: {error.strerror or error}") from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # of JSON, UTF-8, or a number of thousands of digits
        raise InputError(f"{file!r} is not JSON: give a PNG, or a COCO RLE as JSON") from error
    rle = content.get("segmentation", content) if isinstance(content, dict) else None
    if not isinstance(rle, dict):
        raise InputError(
            f'{file!r} holds no COCO RLE: {{"size": [height, width], "counts": ...}} is expected'
        )
    return Mask(decode_rle(rle))


_READERS: Mapping[str, Callable[[str], Region]] = {
    "point": parse_point,
    "box": parse_box,
    "scribble": parse_scribble,
    "polygon": parse_polygon,
    "mask": read_mask,
}


def split_words(
    verb: str, words: Sequence[str] | None, images: Sequence[str] | None, kind: str
) -> tuple[Sequence[str], list[str]]:
    """Tell pictures from text: the first word is the picture, unless pictures are given by `--images`.

    Raises:
        InputError: No picture, no text, an empty text, or a text that is the name of a file.
    """
    words = list(words or ())
    pictures, texts = (images, words) if images else (words[:1], words[1:])
    if not pictures or not texts:
        raise InputError(f'{verb} needs a picture and a {kind}: openferret {verb} IMAGE "{kind}"')
    for text in texts:
        check_text(text, kind)
        if not images and is_file(text):
            if not Path(pictures[0]).exists():
                raise InputError(f'the picture comes first: openferret {verb} IMAGE "{kind}"')
            raise InputError(f"{text!r} is a file, not a {kind}: give several pictures with --images PATH")
    return pictures, [text.strip() for text in texts]


def is_file(text: str) -> bool:
    """Whether a text is the path of a file that is there."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # longer than a file name can be, or with a character that none has
        return False


def check_text(text: str, kind: str) -> None:
    """Refuse a blank text: InputError."""
    if not text.strip():
        raise InputError(f"the {kind} is empty: write what you mean")


def check_threshold(threshold: float | None) -> None:
    """Refuse a threshold that is not in 0..1: InputError."""
    if threshold is not None and not (math.isfinite(threshold) and 0 <= threshold <= 1):
        raise InputError(f"--threshold must be a number of 0 to 1, not {threshold}")


def references(text: str) -> list[int]:
    """Numbers of the regions that a text mentions as `[0]`, `[1]`, ..., in order of mention."""
    # A number that no list of regions can reach is not worth reading: int() refuses thousands of digits.
    return [int(digits[-9:]) if len(digits) <= 9 else 10**9 for digits in _REFERENCE.findall(text)]


def check_references(text: str, count: int, advice: str) -> None:
    """Refuse a text that mentions a region beyond the `count` there are: InputError."""
    beyond = [number for number in references(text) if number >= count]
    if beyond:
        there = {0: "there are no regions", 1: "there is only region [0]"}
        have = there.get(count, f"there are only regions [0] to [{count - 1}]")
        raise InputError(f"[{beyond[0]}] is mentioned but {have}: {advice}")
