"""Pascal VOC: `Annotations/NAME.xml`, `JPEGImages/NAME.jpg`, `ImageSets/Main/SPLIT.txt`; 20 classes, exhaustive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openferret.checks import shorten
from openferret.data.files.regular import read_regular_text
from openferret.data.files.xml_files import parse_xml
from openferret.data.problems import Problems
from openferret.data.records import AnnotatedObject, Category, Record, Vocabulary
from openferret.data.schema import PictureReference
from openferret.data.sources.reading import clean, distinct, path_text, place_box, require_files, usable_size
from openferret.errors import InputError

LICENCE = "not stated by its authors; the pictures are under the Flickr terms"
TITLE = "Pascal VOC"

_SPOKEN = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "tvmonitor": "tv monitor",
}
_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
VOCABULARY = Vocabulary(
    tuple(Category(number, _SPOKEN.get(name, name)) for number, name in enumerate(_CLASSES, 1)), True
)


def read(
    root: Path, problems: Problems, *, pictures: Path | None = None, split: str = "train"
) -> Iterator[Record]:
    """VOC's records, one a picture of the split, in the split's order.

    Args:
        root: folder of one year, as `VOCdevkit/VOC2012`.
        problems: is told of annotations that cannot be used.
        pictures: not needed: sizes stand in the XML.
        split: name of a list in `ImageSets/Main`.

    Raises:
        InputError: files are missing.
    """
    expected = {"Annotations": "an XML file a picture", f"ImageSets/Main/{split}.txt": "names of the split"}
    require_files(TITLE, root, expected)
    seen: set[str] = set()
    for line in read_regular_text(root / "ImageSets" / "Main" / f"{split}.txt").splitlines():
        name = line.split()[0] if line.split() else ""
        if not name:
            continue
        place = f"Annotations/{shorten(name)}.xml"
        if name in seen:
            problems.add("duplicate id", f"ImageSets/Main/{split}.txt", f"{shorten(name)} stands twice")
            continue
        seen.add(name)
        try:
            record = _read_record(root / "Annotations" / f"{Path(name).name}.xml", name, place, problems)
        except InputError as error:
            if problems.strict:
                raise
            problems.add("damaged file", place, str(error))
            continue
        if record is not None:
            yield Record(**{**vars(record), "split": split})


def _read_record(path: Path, name: str, place: str, problems: Problems) -> Record | None:
    root = parse_xml(path)
    size = usable_size(_number(root.findtext("size/width")), _number(root.findtext("size/height")))
    file = path_text(root.findtext("filename")) or f"{name}.jpg"
    if size is None or "/" in file or "\\" in file:
        problems.add("malformed picture", place, "it has no size or no file name")
        return None
    photo = clean(root.findtext("source/flickrid"))
    same_as = (f"flickr:{photo}",) if photo.isdigit() and photo != "0" else ()
    picture = PictureReference(file, *size, "pascal_voc", name, same_as)
    lost: list[str] = []
    objects = tuple(_objects(root, picture, place, problems, lost))
    return Record(picture, LICENCE, objects, vocabulary=VOCABULARY, not_exhaustive=distinct(lost))


def _objects(
    root: Any, picture: PictureReference, place: str, problems: Problems, lost: list[str]
) -> Iterator[AnnotatedObject]:
    """Things with boxes; `lost` gets the names of those whose boxes cannot be used."""
    for number, item in enumerate(root.findall("object")):
        where = f"{place} object {number}"
        name = clean(item.findtext("name"))
        if not name:
            problems.add("object without a name", where, "it has no name")
            continue
        sides = [_number(item.findtext(f"bndbox/{side}"), None) for side in ("xmin", "ymin", "xmax", "ymax")]
        # VOC counts pixels from 1, and a box holds its last row and column.
        corners = [side if side is None or axis > 1 else side - 1 for axis, side in enumerate(sides)]
        box = place_box(corners, picture, where, problems)
        if box is None:
            lost.append(_SPOKEN.get(name, name))
        else:
            yield AnnotatedObject(str(number), box, (_SPOKEN.get(name, name),))


def _number(text: str | None, otherwise: Any = 0) -> Any:
    try:
        return float(text or "")
    except ValueError:
        return otherwise
