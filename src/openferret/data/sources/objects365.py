"""Objects365 v1 and v2: 365 categories, all instances of them annotated.

v2: `zhiyuan_objv2_train.json`; v1: `objects365_train.json`; pictures in `train/` (v2: in its `patchN/`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from openferret.data.problems import Problems
from openferret.data.records import Record
from openferret.data.sources.coco import CocoForm, read_coco_file
from openferret.data.sources.reading import Json, clean, distinct, find_file, missing_files, path_text

LICENCE = "CC BY 4.0"
TITLE = "Objects365"


def read(
    root: Path, problems: Problems, *, pictures: Path | None = None, split: str = "train"
) -> Iterator[Record]:
    """The records of Objects365, one a picture.

    Args:
        root: folder of the annotation file (also in `annotations/` or `SPLIT/`), or the file itself.
        problems: is told of annotations that cannot be used.
        pictures: folder of the pictures.
        split: part of the file's name.

    Raises:
        InputError: the file is missing, or is not of this layout.
    """
    names = (f"zhiyuan_objv2_{split}.json", f"objects365_{split}*.json")
    patterns = [f"{folder}{name}" for name in names for folder in ("", "annotations/", f"{split}/")]
    path = root if root.is_file() else find_file(root, patterns)
    if path is None:
        raise missing_files(TITLE, root, {" or ".join(names): "annotations of v2 or v1"})
    return read_coco_file(path, OBJECTS365, problems, pictures, split=split)


def spoken_names(item: Json) -> tuple[str, ...]:
    """Names in small letters, alternatives apart.

    >>> spoken_names({"name": "Cabinet/shelf"})
    ('cabinet', 'shelf')
    """
    return distinct(clean(name).lower() for name in clean(item.get("name")).split("/"))


def _file(item: Json) -> str:
    return path_text(item.get("file_name"))


OBJECTS365 = CocoForm("objects365", TITLE, LICENCE, True, spoken_names, _file, lambda item: ())
