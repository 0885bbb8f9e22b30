"""COCO: instances with outlines, and captions; any file of COCO's layout is read here.

`annotations/instances_SPLIT.json` and `annotations/captions_SPLIT.json`, or both in the folder itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openferret.checks import shorten
from openferret.data.files.json_stream import not_an_object, stream_items
from openferret.data.files.shelf import Shelf
from openferret.data.outlines import Outline, Polygons, RunLengths
from openferret.data.problems import Problems
from openferret.data.records import AnnotatedObject, Caption, Category, Record, Vocabulary
from openferret.data.schema import PictureReference
from openferret.data.sources.reading import (
    Json,
    clean,
    corners_of,
    distinct,
    find_file,
    flickr_photo,
    id_text,
    locate,
    missing_files,
    pack,
    path_text,
    place_box,
    positive_size,
    whole_id,
)
from openferret.errors import InputError
from openferret.regions import Polygon

LICENCE = "CC BY 4.0"
TITLE = "COCO"


@dataclass(frozen=True)
class CocoForm:
    """What differs between files of COCO's layout.

    Args:
        source: name of the source.
        title: of the source, for people.
        licence: of its annotation.
        exhaustive: whether every instance of every category is annotated.
        names: a category's entry -> its names, the usual one first.
        file: a picture's entry -> its path, or "".
        same_as: a picture's entry -> the same picture elsewhere.
        instances: whether every instance of what a picture is known to have is annotated.
    """

    source: str
    title: str
    licence: str
    exhaustive: bool
    names: Callable[[Json], tuple[str, ...]]
    file: Callable[[Json], str]
    same_as: Callable[[Json], tuple[str, ...]]
    instances: bool = True


def read(
    root: Path, problems: Problems, *, pictures: Path | None = None, split: str = "train2017"
) -> Iterator[Record]:
    """COCO's records, one a picture.

    Args:
        root: folder of the annotations, or the instances file itself.
        problems: is told of annotations that cannot be used.
        pictures: folder of the pictures.
        split: part of the files' names.

    Raises:
        InputError: files are missing, or are not of this layout.
    """
    instances, captions = root, None
    if not root.is_file():
        folders = ("annotations/", "")
        found = find_file(root, [f"{folder}instances_{split}.json" for folder in folders])
        captions = find_file(root, [f"{folder}captions_{split}.json" for folder in folders])
        if found is None:
            raise missing_files(TITLE, root, {f"annotations/instances_{split}.json": "instances"})
        instances = found
    return read_coco_file(instances, COCO, problems, pictures, captions, split)


def read_coco_file(
    path: Path,
    form: CocoForm,
    problems: Problems,
    pictures: Path | None = None,
    captions: Path | None = None,
    split: str = "",
) -> Iterator[Record]:
    """The records of one file of COCO's layout, in the order of its pictures.

    Args:
        path: of the file.
        form: what is particular to its source.
        problems: is told of entries that cannot be used.
        pictures: folder of the pictures; their sizes are taken from the file.
        captions: a file of COCO's captions of the same pictures.
        split: kept in the records.

    Raises:
        InputError: the file has no categories or no pictures.
    """
    categories = _read_categories(path, form, problems)
    seen: set[str] = set()
    with Shelf() as shelf, Shelf() as told:
        before = problems.counts["damaged file"]
        _put_away(path, shelf, problems)
        # Annotations that are cut off are of things that are there: of no picture is known what it has not.
        whole = problems.counts["damaged file"] == before
        vocabulary = Vocabulary(
            tuple(categories.values()), form.exhaustive and whole, form.instances and whole
        )
        if captions is not None:
            _put_away(captions, told, problems)
        for item in stream_items(path, "images.item", problems):
            picture = _picture(item, path, form, pictures, problems)
            if picture is None:
                continue
            if picture.id in seen:
                problems.add("duplicate id", f"{path.name} picture {picture.id}", "its id stands twice")
                continue
            seen.add(picture.id)
            lost: list[str] = []
            objects = tuple(_objects(shelf.take(picture.id), picture, path, categories, problems, lost))
            yield Record(
                picture,
                form.licence,
                objects,
                captions=tuple(_captions(told.take(picture.id))),
                vocabulary=vocabulary,
                absent=_named(item.get("neg_category_ids"), categories),
                not_exhaustive=distinct(
                    [*_named(item.get("not_exhaustive_category_ids"), categories), *lost]
                ),
                split=split,
            )
        if not seen and not problems.counts:
            raise InputError(f"{path} is not of COCO's layout: it has no list `images` with pictures in it")
        for key in shelf:
            if key not in seen:
                problems.add(
                    "unknown picture",
                    f"{path.name} picture {key}",
                    "annotations name it, but it has no usable entry",
                )


def _read_categories(path: Path, form: CocoForm, problems: Problems) -> dict[str, Category]:
    reason = not_an_object(path)
    if reason:
        raise InputError(f"{path} is not of COCO's layout: {reason}")
    found: dict[str, Category] = {}
    # Categories mostly stand last: the way to the end of the file is short.
    for item in stream_items(path, "categories.item", problems, whole=True):
        names = form.names(item) if isinstance(item, dict) else ()
        key = id_text(item.get("id")) if names else None
        if key is None:
            problems.add("malformed category", path.name, f"{shorten(repr(item))} has no id or name")
            continue
        if key in found:
            problems.add("duplicate id", f"{path.name} category {key}", "its id stands twice")
            continue
        broader = clean(item.get("supercategory"))
        number = whole_id(key)
        found[key] = Category(
            len(found) if number is None else number,
            names[0],
            names[1:],
            clean(item.get("synset")),
            (broader,) if broader and broader != names[0] else (),
            clean(item.get("frequency")),
        )
    if not found:
        raise InputError(
            f"{path} is not of COCO's layout: it has no list `categories` with ids and names in it"
        )
    return found


def _put_away(path: Path, shelf: Shelf, problems: Problems) -> None:
    for number, item in enumerate(stream_items(path, "annotations.item", problems)):
        key = id_text(item.get("image_id")) if isinstance(item, dict) else None
        text = None if key is None else pack(item)
        if key is None or text is None:
            problems.add(
                "malformed annotation", f"{path.name} annotation number {number}", "it names no picture"
            )
        else:
            shelf.put(key, text)


def _picture(
    item: Any, path: Path, form: CocoForm, pictures: Path | None, problems: Problems
) -> PictureReference | None:
    if not isinstance(item, dict) or (key := id_text(item.get("id"))) is None:
        problems.add("malformed picture", path.name, f"{shorten(repr(item))} has no id")
        return None
    size, file = positive_size(item), form.file(item)
    if size is None or not file:
        problems.add("malformed picture", f"{path.name} picture {key}", "it has no file name or no size")
        return None
    return PictureReference(locate(file, pictures), *size, form.source, key, form.same_as(item))


def _objects(
    texts: list[str],
    picture: PictureReference,
    path: Path,
    categories: Mapping[str, Category],
    problems: Problems,
    lost: list[str],
) -> Iterator[AnnotatedObject]:
    """Things with boxes; `lost` gets the names of those whose boxes cannot be used."""
    seen: dict[str, str] = {}
    for text in texts:
        item = json.loads(text)
        key = str(item.get("id", ""))
        place = f"{path.name} annotation {shorten(key)} of picture {picture.id}"
        named = id_text(item.get("category_id"))
        category = None if named is None else categories.get(named)
        if category is None:
            said = shorten(repr(item.get("category_id")))
            problems.add(
                "unknown category", place, f"it has the category {said}, which the file does not list"
            )
            continue
        if key and key in seen:
            problems.add("duplicate id", place, "its id stands twice")
            if seen[key] != text:  # another thing, and not the same once more
                lost.append(category.name)
            continue
        seen[key] = text
        box = place_box(corners_of(item.get("bbox")), picture, place, problems)
        if box is None:
            lost.append(category.name)
            continue
        yield AnnotatedObject(
            key,
            box,
            (category.name, *category.synonyms),
            synset=category.synset,
            outline=read_outline(item.get("segmentation"), picture, place, problems),
            is_crowd=item.get("iscrowd") is True or whole_id(item.get("iscrowd")) == 1,
        )


def read_outline(
    segmentation: Any, picture: PictureReference, place: str, problems: Problems
) -> Outline | None:
    """COCO's `segmentation`, run lengths or lists of coordinates; None, and a problem, if it is neither."""
    if not segmentation:
        return None
    try:
        if isinstance(segmentation, dict):
            if segmentation.get("size") != [picture.height, picture.width]:  # looked at before it is decoded
                raise InputError(f"a mask of the size {segmentation.get('size')} is not of the picture's")
            runs = RunLengths.from_dict(segmentation)
            runs.mask()  # text that is damaged, or a mask of nothing, is found out here and not in a training
            return runs
        if any(len(part) % 2 for part in segmentation):
            raise InputError("a polygon needs an even count of numbers, x and y of each point")
        parts = [Polygon(list(zip(part[::2], part[1::2], strict=True))) for part in segmentation]
        return Polygons(tuple(parts))
    except (InputError, TypeError, ValueError) as error:
        problems.add("malformed outline", place, f"its segmentation cannot be used: {shorten(error, 120)}")
        return None


def _captions(texts: list[str]) -> Iterator[Caption]:
    for text in texts:
        item = json.loads(text)
        words = clean(item.get("caption"))
        if words:
            yield Caption(words, id=str(item.get("id", "")))


def _named(ids: Any, categories: Mapping[str, Category]) -> tuple[str, ...]:
    keys = [id_text(one) for one in ids] if isinstance(ids, list) else []
    return distinct(categories[key].name for key in keys if key is not None and key in categories)


def _plain_names(item: Json) -> tuple[str, ...]:
    return distinct([clean(item.get("name"))])


def _plain_file(item: Json) -> str:
    return path_text(item.get("file_name"))


def _flickr(item: Json) -> tuple[str, ...]:
    return flickr_photo(item.get("flickr_url"))


COCO = CocoForm("coco", TITLE, LICENCE, True, _plain_names, _plain_file, _flickr)
OWN = CocoForm("coco_json", "a COCO json", "", False, _plain_names, _plain_file, lambda item: ())


def read_own(
    root: Path,
    problems: Problems,
    *,
    pictures: Path | None = None,
    exhaustive: bool = False,
    licence: str = "",
) -> Iterator[Record]:
    """The records of a COCO json of one's own; `root` is the file, or a folder with one json in it.

    Args:
        root: the file or folder.
        problems: is told of entries that cannot be used.
        pictures: folder of the pictures.
        exhaustive: whether what is not annotated is not there; only then may absent things be asked about.
        licence: of the annotation.

    Raises:
        InputError: no json, or several; or one that is not of this layout.
    """
    files = [root] if root.is_file() else sorted(root.glob("*.json"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise InputError(f"{root} should be a COCO json, or a folder with one; found: {found}")
    form = CocoForm(OWN.source, OWN.title, licence, exhaustive, OWN.names, OWN.file, OWN.same_as, exhaustive)
    return read_coco_file(files[0], form, problems, pictures)
