"""A folder of masks: `images/NAME.jpg` and `masks/NAME/LABEL.png`, one thing a mask; `LABEL-2.png` is the second."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from openferret.data.files.regular import check_regular
from openferret.data.outlines import RunLengths
from openferret.data.problems import Problems
from openferret.data.records import AnnotatedObject, Record
from openferret.data.schema import PictureReference
from openferret.data.sources.reading import PICTURE_SUFFIXES, clean, measured_picture, require_files
from openferret.errors import InputError
from openferret.masks import mask_from_png
from openferret.regions import Mask, region_bounds

TITLE = "a folder of masks"
_COUNT = re.compile(r"[-_ ]\d+$")


def read(
    root: Path, problems: Problems, *, pictures: Path | None = None, licence: str = ""
) -> Iterator[Record]:
    """Records, one a picture that has a folder of masks, by name.

    Args:
        root: the folder of `masks`, and of `images` unless `pictures` is given.
        problems: is told of masks and pictures that cannot be used.
        pictures: the folder of the pictures.
        licence: of the annotation.

    Raises:
        InputError: folders are missing.
    """
    expected = {"masks": "a folder of PNG masks for each picture"}
    require_files(TITLE, root, expected if pictures else {**expected, "images": "the pictures"})
    home = pictures or root
    shown = sorted((pictures or root / "images").iterdir())
    by_stem = {file.stem: file for file in shown if file.suffix.lower() in PICTURE_SUFFIXES}
    for folder in sorted(place for place in (root / "masks").iterdir() if place.is_dir()):
        file = by_stem.get(folder.name)
        if file is None:
            problems.add("missing picture", f"masks/{folder.name}", f"there is no picture {folder.name}")
            continue
        picture = measured_picture(
            file.relative_to(home).as_posix(), home, "mask_folder", folder.name, problems
        )
        if picture is not None:
            found = (_object(mask, picture, problems) for mask in sorted(folder.glob("*.png")))
            yield Record(picture, licence, tuple(one for one in found if one is not None))


def _object(path: Path, picture: PictureReference, problems: Problems) -> AnnotatedObject | None:
    place = f"masks/{picture.id}/{path.name}"
    name = clean(_COUNT.sub("", path.stem).replace("_", " "))
    try:
        check_regular(path)
        mask = Mask(mask_from_png(path))
        box = region_bounds(mask, picture.width, picture.height)
    except InputError as error:
        problems.add("unusable mask", place, str(error))
        return None
    if not name:
        problems.add("object without a name", place, "its file has no name but a number")
        return None
    return AnnotatedObject(path.stem, box, (name,), outline=RunLengths.of(mask.array))
