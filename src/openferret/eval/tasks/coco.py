"""COCO and LVIS annotation files: pictures, classes, instances with boxes and masks; captions too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openferret import masks
from openferret.decoding import MAX_PIXELS
from openferret.errors import InputError
from openferret.eval.files import is_regular, read_json, read_names
from openferret.eval.metrics.boxes import BoxNumbers, area
from openferret.regions import Box


@dataclass(frozen=True)
class CocoPicture:
    """A picture as the file describes it; sizes in pixels.

    Args:
        key: its id as text.
        file: its path below the folder of pictures, as the file has it; never out of that folder.
        absent: classes that LVIS says are not on it; classes neither there nor here are unknown.
        exhaustive: False for the classes in `unsure` only: LVIS does not mark every instance of these.
    """

    key: str
    file: str
    width: int
    height: int
    absent: frozenset[int] = frozenset()
    unsure: frozenset[int] = frozenset()

    @property
    def name(self) -> str:
        """Of its file, without folders."""
        return self.file.rpartition("/")[2]


@dataclass(frozen=True)
class CocoClass:
    """A class: its name and synonyms, and in LVIS how frequent it is: r, c or f."""

    id: int
    name: str
    synonyms: tuple[str, ...] = ()
    frequency: str = ""


@dataclass(frozen=True)
class Instance:
    """One thing on a picture: its box in 0..1 and its outline as the file has it."""

    id: int
    picture: str
    class_id: int
    box: BoxNumbers
    segmentation: Any


@dataclass(frozen=True)
class CocoFile:
    """The content of an annotation file that can be asked about.

    Args:
        pictures: by key, in the file's order.
        asked: keys of the pictures that questions are about; how frequent classes are is told by all.
        classes: by id.
        instances: neither crowds nor boxes without area.
        left_out: crowds, and boxes without area.
        aside: by picture, the classes of what was left out: they are there, though nothing is asked about them.
    """

    pictures: Mapping[str, CocoPicture]
    asked: frozenset[str]
    classes: Mapping[int, CocoClass]
    instances: tuple[Instance, ...]
    left_out: tuple[int, int]
    aside: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def classes_on(self) -> dict[str, set[int]]:
        """Classes that are annotated on each picture, be it as a crowd."""
        found = {key: set(self.aside.get(key, ())) for key in self.pictures}
        for one in self.instances:
            found[one.picture].add(one.class_id)
        return found

    def notes(self) -> tuple[str, ...]:
        """What was left out, as sentences."""
        crowds, flat = self.left_out
        return (f"{crowds} crowds and {flat} boxes without area were left out.",)


def read_coco(path: Path, only: Path | None = None) -> CocoFile:
    """Reads COCO's `instances_*.json` or LVIS's `lvis_*.json`.

    Args:
        path: of the file.
        only: a file of ids or file names, one a line, of the pictures to ask about; None is all.

    Raises:
        InputError: a malformed file, an id that stands twice, an annotation of an unknown picture or class.
    """
    content = read_json(path)
    try:
        pictures = _unique((_picture(one) for one in content["images"]), lambda one: one.key, path, "image")
        classes = _unique(
            (_class(one) for one in content["categories"]), lambda one: one.id, path, "category"
        )
        asked = _choose(pictures, only)
        instances: dict[int, Instance] = {}
        aside: dict[str, set[int]] = {}
        crowds = flat = 0
        for item in content["annotations"]:
            picture = pictures[str(item["image_id"])]
            x, y, w, h = (float(value) for value in item["bbox"])
            box = (x / picture.width, y / picture.height, (x + w) / picture.width, (y + h) / picture.height)
            inside = tuple(min(max(value, 0.0), 1.0) for value in box)
            one = Instance(
                *(int(item["id"]), picture.key, classes[int(item["category_id"])].id),
                (inside[0], inside[1], inside[2], inside[3]),
                item.get("segmentation"),
            )
            if one.id in instances:
                raise InputError(f"{path}: annotation {one.id} stands twice")
            if not item.get("iscrowd") and area(one.box):
                instances[one.id] = one
                continue
            aside.setdefault(one.picture, set()).add(one.class_id)
            if item.get("iscrowd"):
                crowds += 1
            else:
                flat += 1
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, OverflowError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} is not a COCO or LVIS annotation file ({problem})") from None
    told = {key: frozenset(found) for key, found in aside.items()}
    return CocoFile(pictures, asked, classes, tuple(instances.values()), (crowds, flat), told)


def read_captions(path: Path) -> dict[str, list[str]]:
    """COCO's `captions_*.json`: sentences by picture key; InputError if it is not one."""
    content = read_json(path)
    captions: dict[str, list[str]] = {}
    try:
        for item in content["annotations"]:
            captions.setdefault(str(item["image_id"]), []).append(str(item["caption"]))
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is not a COCO captions file ({type(error).__name__}: {error})") from None
    return captions


def instance_mask(instance: Instance, picture: CocoPicture) -> masks.BoolArray:
    """What an instance covers, `[height, width]`; its box where there is no usable outline.

    Raises:
        InputError: an outline that is neither polygons nor run lengths.
    """
    outline, size = instance.segmentation, (picture.width, picture.height)
    mask = np.zeros((picture.height, picture.width), dtype=bool)
    if isinstance(outline, Mapping):
        mask = masks.decode_rle(outline)
    elif outline:
        try:
            for polygon in outline:
                points = np.asarray(polygon, np.float64).reshape(-1, 2)
                if len(points) >= 3 and np.isfinite(points).all():
                    mask |= masks.fill_polygon(points.clip(-1e6, 1e6), *size)
        except (TypeError, ValueError):
            raise InputError(f"annotation {instance.id} has an outline that is not numbers") from None
    if mask.shape != (picture.height, picture.width):
        raise InputError(f"annotation {instance.id} has a mask of another size than its picture")
    if not mask.any():
        x1, y1, x2, y2 = instance.box
        box = Box(x1 * picture.width, y1 * picture.height, x2 * picture.width, y2 * picture.height)
        mask[
            int(box.y1) : max(int(box.y2), int(box.y1) + 1), int(box.x1) : max(int(box.x2), int(box.x1) + 1)
        ] = True
    return mask


def picture_files(images: Path, pictures: Iterable[CocoPicture]) -> dict[str, Path]:
    """Where each picture is: at its path, under its file name alone, or under the other year's form of it.

    `COCO_val2014_000000000042.jpg` and `000000000042.jpg` are the same picture.
    """
    files = {}
    for one in pictures:
        plain = one.name.rpartition("_")[2] if one.name.startswith("COCO_") else one.name
        choices = [images / name for name in dict.fromkeys((one.file, one.name, plain))]
        files[one.key] = next((path for path in choices if is_regular(path)), choices[0])
    return files


def _picture(item: Mapping[str, Any]) -> CocoPicture:
    # LVIS v1 has no file name but an address, whose last folder tells train2017 from val2017.
    name = str(item.get("file_name") or "/".join(str(item["coco_url"]).split("/")[-2:]))
    width, height = int(item["width"]), int(item["height"])
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ValueError(f"picture {item['id']} of {width} x {height} pixels")
    absent = frozenset(int(one) for one in item.get("neg_category_ids", ()))
    unsure = frozenset(int(one) for one in item.get("not_exhaustive_category_ids", ()))
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return CocoPicture(str(item["id"]), "/".join(parts), width, height, absent, unsure)


def _class(item: Mapping[str, Any]) -> CocoClass:
    synonyms = tuple(str(one) for one in item.get("synonyms", ()))
    name = str(item["name"])
    if not any(map(str.isalnum, name)):
        raise ValueError(f"category {item['id']} has no name")
    return CocoClass(int(item["id"]), name, synonyms, str(item.get("frequency", "")))


def _unique(items: Iterable[Any], key: Any, path: Path, what: str) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for one in items:
        if key(one) in found:
            raise InputError(f"{path}: {what} {key(one)} stands twice")
        found[key(one)] = one
    return found


def _choose(pictures: Mapping[str, CocoPicture], only: Path | None) -> frozenset[str]:
    if only is None:
        return frozenset(pictures)
    wanted = set(read_names(only))
    chosen = {
        key
        for key, one in pictures.items()
        if wanted & {key, one.name, one.file, Path(one.name).stem, Path(one.file).with_suffix("").as_posix()}
    }
    if not chosen:
        raise InputError(f"{only} names none of the pictures: one id or file name a line is expected")
    return frozenset(chosen)


def count_pairs(on: Iterable[set[int]]) -> tuple[dict[int, int], dict[int, dict[int, int]]]:
    """How many pictures each class is on, and each two classes together."""
    single: dict[int, int] = {}
    pairs: dict[int, dict[int, int]] = {}
    for classes in on:
        for one in classes:
            single[one] = single.get(one, 0) + 1
            row = pairs.setdefault(one, {})
            for other in classes - {one}:
                row[other] = row.get(other, 0) + 1
    return single, pairs
