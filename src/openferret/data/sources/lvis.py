"""LVIS v0.5 and v1: 1,200 categories on COCO's pictures, with what is known to be absent from each.

`lvis_v1_train.json` (or `lvis_v0.5_train.json`); the pictures are COCO 2017's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from openferret.data.problems import Problems
from openferret.data.records import Record
from openferret.data.sources.coco import CocoForm, read_coco_file
from openferret.data.sources.reading import Json, clean, distinct, find_file, flickr_photo, missing_files

LICENCE = "CC BY 4.0"
TITLE = "LVIS"


def read(
    root: Path, problems: Problems, *, pictures: Path | None = None, split: str = "train"
) -> Iterator[Record]:
    """LVIS's records, one a picture; `absent` and `not_exhaustive` are those of the picture's entry.

    Args:
        root: folder of `lvis_v1_SPLIT.json`, or the file itself.
        problems: is told of annotations that cannot be used.
        pictures: folder that holds `train2017/` and `val2017/`, or one of these.
        split: part of the file's name.

    Raises:
        InputError: the file is missing, or is not of this layout.
    """
    path = root if root.is_file() else find_file(root, [f"lvis_v1_{split}.json", f"lvis*_{split}*.json"])
    if path is None:
        raise missing_files(TITLE, root, {f"lvis_v1_{split}.json": "annotations"})
    return read_coco_file(path, LVIS, problems, pictures, split=split)


def spoken_names(item: Json) -> tuple[str, ...]:
    """Names as a person says them, the category's own first: "bow_(weapon)" is "bow".

    >>> spoken_names({"name": "aerosol_can", "synonyms": ["aerosol_can", "spray_can"]})
    ('aerosol can', 'spray can')
    """
    synonyms = item.get("synonyms")
    written = [item.get("name"), *(synonyms if isinstance(synonyms, list) else [])]
    return distinct(clean(re.sub(r"\([^)]*\)", " ", clean(name).replace("_", " "))) for name in written)


def _file(item: Json) -> str:
    # v1 gives no file name but COCO's address; v0.5 the name of 2014, which the folders of 2017 do not have.
    address = clean(item.get("coco_url"))
    return "/".join(address.split("/")[-2:]) if address else clean(item.get("file_name"))


def _same_as(item: Json) -> tuple[str, ...]:
    return (f"coco:{item['id']}", *flickr_photo(item.get("flickr_url")))


LVIS = CocoForm("lvis", TITLE, LICENCE, False, spoken_names, _file, _same_as)
