"""Which pictures of a built data set Kit may learn from: none that it is measured on, or chosen by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openferret.data.building.leaks import LeakFilter
from openferret.data.building.reading import held_out
from openferret.data.loading.dataset import Dataset
from openferret.data.schema import PictureReference
from openferret.errors import InputError
from openferret.eval.leaks import NEAR, perceptual_hash, picture_id
from openferret.flickr30k import development_names
from openferret.images import load_image

DEVELOPMENT = "dev"  # pictures of the train split that choices are made by
_TOLD = 3  # pictures that an error names


@dataclass(frozen=True)
class Allowed:
    """Pictures of a build that may be learned from, and how many are kept back to choose by."""

    pictures: tuple[PictureReference, ...]
    kept_back: int


def allowed_pictures(build: Dataset, data: Path) -> Allowed:
    """Looks at every picture of a build, by name and by looks.

    Args:
        build: opened.
        data: Kit's training data; what is kept back there is kept back here.

    Returns:
        Without the pictures that are `dev` (part of Flickr30k's train split, so a sound build may hold them).

    Raises:
        InputError: it holds a picture of Flickr30k's val or test split, or of COCO mini-val.
    """
    kept_back = protected_pictures(data)
    pictures: list[PictureReference] = []
    found: list[tuple[str, str, str]] = []
    development = 0
    for picture in build.pictures():
        looks = int(picture.fingerprint, 16) if picture.fingerprint else None
        match kept_back.find(picture, looks):
            case None:
                pictures.append(picture)
            case (name, _) if name == DEVELOPMENT:
                development += 1
            case (name, how):
                found.append((picture.file, name, how))
    if found:
        told = "; ".join(f"{file} is in {name}, by {how}" for file, name, how in found[:_TOLD])
        more = f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
        raise InputError(
            f"{build.place} holds {len(found)} pictures that Kit is measured on, so that it is not trained on it: "
            f"{told}{more}. Build it again with these sets under `leaks` (docs/grit.md)"
        )
    return Allowed(tuple(pictures), development)


def protected_pictures(data: Path) -> LeakFilter:
    """What Kit is measured on or chosen by: Flickr30k's val and test splits, `dev`, and COCO mini-val.

    Args:
        data: with `train.txt`, and `val.txt`, `test.txt`, `instances_train2017.json` if they are there. Pictures whose
            files are there are known by their looks too.
    """
    ids: dict[str, str] = {}
    hashes: list[int] = []
    names: list[str] = []
    for identity, name, file in _kept_back(data):
        ids.setdefault(identity, name)
        if file.is_file():
            hashes.append(perceptual_hash(load_image(file)))
            names.append(name)
    return LeakFilter(ids, np.array(hashes, np.uint64), tuple(names), NEAR)


def _kept_back(data: Path) -> Iterator[tuple[str, str, Path]]:
    """Identity, set, and where the picture should lie."""
    pictures = data / "flickr30k-images"
    splits = {name: data / f"{name}.txt" for name in ("val", "test")}
    for name, split in splits.items():
        if split.is_file():
            for one in split.read_text(encoding="utf-8").split():
                yield f"flickr30k:{picture_id(one)}", f"flickr30k {name}", pictures / f"{one}.jpg"
    for one in sorted(development_names((data / "train.txt").read_text(encoding="utf-8").split())):
        yield f"flickr30k:{picture_id(one)}", DEVELOPMENT, pictures / f"{one}.jpg"
    annotations = data / "instances_train2017.json"
    if annotations.is_file():
        for picture in json.loads(annotations.read_text(encoding="utf-8"))["images"]:
            if held_out(str(picture["id"])):
                yield (
                    f"coco:{picture['id']}",
                    "coco mini-val",
                    data / "train2017" / str(picture["file_name"]),
                )
