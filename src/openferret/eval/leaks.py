"""Pictures that stand in two sets at once: by their names, and by what they look like.

What they look like is a 64-bit perceptual hash: the signs of the lowest frequencies of the picture at 32 x 32
in grey. It survives another size, a squashed shape, JPEG and small changes of light, not a crop or a mirror.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openferret.errors import InputError
from openferret.eval.files import read_names
from openferret.images import find_images, load_image

NEAR = 4  # bits of 64 that may differ
_SIDE, _LOW = 32, 8
_CHUNK = 4_000_000


@dataclass(frozen=True)
class Leak:
    """A picture of the evaluation set that is also in training.

    Args:
        train: its name there.
        evaluation: its name here.
        how: `name`, or `looks`.
        distance: bits of the hash that differ; 0 for a name.
    """

    train: str
    evaluation: str
    how: str
    distance: int = 0


@dataclass(frozen=True)
class Pictures:
    """A set of pictures: their names, and hashes of those whose files are there (uint64)."""

    names: tuple[str, ...]
    hashed: Mapping[str, int]


def picture_id(name: str) -> str:
    """What is the same in all forms of a picture's name: no folder, no suffix, no year, no leading zeros.

    >>> picture_id("val2014/COCO_val2014_000000000042.jpg"), picture_id("000000000042.jpg")
    ('42', '42')
    """
    file = name.rstrip("/").rpartition("/")[2]  # by hand: a build asks for the ids of millions
    stem = file.rpartition(".")[0] or file
    last = stem.rpartition("_")[2] if stem.startswith("COCO_") else stem
    return (last.lstrip("0") or "0") if last.isdigit() else last


def perceptual_hash(image: Image.Image) -> int:
    """64 bits: which of the 8 x 8 lowest frequencies (the mean left out) are above their median.

    >>> flat = Image.new("RGB", (40, 20), "grey")
    >>> perceptual_hash(flat) == perceptual_hash(flat.resize((80, 90)))
    True
    """
    grey = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    values = np.asarray(grey, np.float64)
    low = (_BASIS @ values @ _BASIS.T).ravel()
    # Rounding makes a plain picture's frequencies exactly 0 on every machine.
    rounded = np.round(low[1:], 6)
    bits = np.concatenate([[False], rounded > np.median(rounded)])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _cosines() -> NDArray[np.float64]:
    order, place = np.arange(_LOW)[:, None], np.arange(_SIDE)[None, :]
    basis: NDArray[np.float64] = np.cos(np.pi * order * (2 * place + 1) / (2 * _SIDE))
    return basis


_BASIS = _cosines()


def read_pictures(place: Path) -> Pictures:
    """A folder of pictures (hashed), or a text file of names, one a line.

    Raises:
        InputError: neither, or a picture that cannot be read.
    """
    if not place.is_dir():
        if not place.is_file():
            raise InputError(f"{place} does not exist: give a folder of pictures or a file of names")
        return Pictures(tuple(read_names(place)), {})
    files = find_images([place])
    return Pictures(
        tuple(str(file.relative_to(place)) for file in files),
        {str(file.relative_to(place)): perceptual_hash(load_image(file)) for file in files},
    )


def find_leaks(train: Pictures, evaluation: Pictures, near: int = NEAR) -> list[Leak]:
    """Pictures of `evaluation` that are in `train`, by name first, then by their looks.

    Raises:
        InputError: `near` outside 0..32.
    """
    if not 0 <= near <= 32:
        raise InputError(f"--near must lie between 0 and 32 bits, not {near}")
    ids = {picture_id(name): name for name in train.names}
    found = {
        name: Leak(ids[picture_id(name)], name, "name")
        for name in evaluation.names
        if picture_id(name) in ids
    }
    for first, second, distance in _near_pairs(train.hashed, evaluation.hashed, near):
        found.setdefault(second, Leak(first, second, "looks", distance))
    return sorted(found.values(), key=lambda leak: (leak.how, leak.evaluation))


def without_leaks(names: Iterable[str], leaks: Sequence[Leak]) -> list[str]:
    """Names of training pictures that leak into no evaluation set: what a data build keeps.

    >>> without_leaks(["a.jpg", "b.jpg"], [Leak("a.jpg", "x.jpg", "looks")])
    ['b.jpg']
    """
    leaked = {picture_id(leak.train) for leak in leaks}
    return [name for name in names if picture_id(name) not in leaked]


def _near_pairs(
    train: Mapping[str, int], evaluation: Mapping[str, int], near: int
) -> Iterable[tuple[str, str, int]]:
    if not train or not evaluation:
        return
    firsts, seconds = list(train), list(evaluation)
    left = np.array([train[name] for name in firsts], np.uint64)
    right = np.array([evaluation[name] for name in seconds], np.uint64)
    step = max(1, _CHUNK // len(left))
    for start in range(0, len(right), step):
        distances = np.bitwise_count(right[start : start + step, None] ^ left[None, :])
        nearest = distances.argmin(axis=1)
        for index, other in enumerate(nearest):
            distance = int(distances[index, other])
            if distance <= near:
                yield firsts[int(other)], seconds[start + index], distance
