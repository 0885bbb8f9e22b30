"""What is seen of a record's picture before samples are written of it: is it there, sound, and in no test set?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from openferret.data.building.leaks import LeakFilter
from openferret.data.building.recipe import PictureCheck
from openferret.data.files.atomic import write_json
from openferret.data.files.regular import is_regular
from openferret.data.schema import PictureReference
from openferret.data.sources.reading import inside
from openferret.errors import InputError
from openferret.eval.files import read_json
from openferret.eval.leaks import perceptual_hash, picture_id
from openferret.images import load_image


@dataclass(frozen=True)
class Seen:
    """A picture that was looked at.

    Args:
        picture: with its size and fingerprint, where they were learned.
        problem: a kind and a sentence, if it cannot be used.
        leak: the evaluation set it is in, and how that is known.
    """

    picture: PictureReference
    problem: tuple[str, str] | None = None
    leak: tuple[str, str] | None = None


def look(
    picture: PictureReference, folder: Path, check: PictureCheck, leaks: LeakFilter, hashes: Mapping[str, int]
) -> Seen:
    """Looks at a picture.

    Args:
        picture: as its source names it.
        folder: of the source's pictures.
        check: whether it is opened, or looked for, or neither.
        leaks: pictures that must not be used.
        hashes: perceptual hashes by picture id, where they are known beforehand.
    """
    known = picture.fingerprint or _digits(
        hashes.get(picture_id(picture.file), hashes.get(picture_id(picture.id)))
    )
    if leaks.ids:  # by id first: that needs no file
        found = leaks.find(picture, None)
        if found:
            return Seen(picture, leak=found)
    if check != "none":
        path = inside(folder, picture.file)
        if path is None or not is_regular(path):
            return Seen(picture, ("missing picture", f"{folder / picture.file} does not exist"))
        if check == "open":
            try:
                image = load_image(path)
            except InputError as error:
                return Seen(picture, ("damaged picture", str(error)))
            known = f"{perceptual_hash(image):016x}"
            if not picture.known_size:
                picture = replace(picture, width=image.width, height=image.height)
            elif image.size != (picture.width, picture.height):
                said = (
                    f"it is {image.width} x {image.height}, its annotation {picture.width} x {picture.height}"
                )
                return Seen(picture, ("picture of another size", f"{said}: boxes would be elsewhere"))
    seen = replace(picture, fingerprint=known) if known else picture
    return Seen(seen, leak=leaks.find(seen, int(known, 16)) if known else None)


def _digits(value: int | None) -> str:
    return "" if value is None else f"{value:016x}"


def write_filter(path: Path, leaks: LeakFilter) -> None:
    """Puts a filter where every worker finds it.

    Raises:
        InputError: the file cannot be written.
    """
    content = {
        "ids": dict(leaks.ids),
        "hashes": [int(one) for one in leaks.hashes],
        "names": list(leaks.names),
        "near": leaks.near,
    }
    write_json(path, content)


@lru_cache(maxsize=2)
def read_filter_file(path: Path) -> LeakFilter:
    """The filter that `write_filter` has put away; read once in a process."""
    content = read_json(path)
    return LeakFilter(
        content["ids"], np.array(content["hashes"], np.uint64), tuple(content["names"]), content["near"]
    )
