"""RefCOCO, RefCOCO+, RefCOCOg: expressions of one object each, on pictures of COCO 2014.

`refs(unc).p` (or `refs(google).p`, `refs(umd).p`) with `instances.json`; or MDETR's `finetune_refcoco*_SPLIT.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from openferret.checks import shorten
from openferret.data.files.json_stream import stream_items
from openferret.data.files.shelf import Shelf
from openferret.data.problems import Problems
from openferret.data.records import AnnotatedObject, Expression, Record
from openferret.data.schema import PictureReference
from openferret.data.sources.coco import read_outline
from openferret.data.sources.reading import (
    clean,
    corners_of,
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
from openferret.eval.files import read_pickle

LICENCE = "not stated by its authors (their code: Apache-2.0)"
TITLE = "RefCOCO"


def read(
    root: Path,
    problems: Problems,
    *,
    pictures: Path | None = None,
    split: str = "train",
    dataset: str = "refcoco",
) -> Iterator[Record]:
    """Records, one a picture, each with the objects that are referred to and their expressions.

    Args:
        root: the folder of the two original files, the folder of MDETR's files, or one of MDETR's files.
        problems: is told of expressions that cannot be used.
        pictures: folder of COCO's train2014 pictures.
        split: as "train", "val", "testA".
        dataset: "refcoco", "refcoco+" or "refcocog": which of MDETR's files; kept as the records' source.

    Raises:
        InputError: files are missing, or the pickle asks for anything but plain data.
    """
    if root.is_file():
        yield from _read_mdetr(root, problems, pictures, split, dataset)
        return
    refs = find_file(root, ["refs(umd).p", "refs(unc).p", "refs(*).p"])
    mdetr = find_file(root, [f"finetune_{dataset}_{split}.json"])
    if refs is not None and (root / "instances.json").is_file():
        yield from _read_original(refs, root / "instances.json", problems, pictures, split, dataset)
    elif mdetr is not None:
        yield from _read_mdetr(mdetr, problems, pictures, split, dataset)
    elif refs is not None:
        raise missing_files(TITLE, root, {"instances.json": "boxes and pictures"})
    else:
        originals = {"refs(*).p": "expressions", "instances.json": "boxes and pictures"}
        other = {f"or finetune_{dataset}_{split}.json": "MDETR's form of both"}
        raise missing_files(TITLE, root, originals | other)


def _read_original(
    refs: Path, instances: Path, problems: Problems, pictures: Path | None, split: str, dataset: str
) -> Iterator[Record]:
    content = read_pickle(refs)
    if not isinstance(content, list) or not all(isinstance(ref, dict) for ref in content):
        raise InputError(f"{refs} is not a list of references")
    splits = {clean(ref.get("split")) for ref in content}
    if split not in splits:
        raise InputError(f"{refs} has no split {split!r}: give one of {', '.join(sorted(splits))}")
    by_picture: dict[str, list[dict[str, Any]]] = {}
    for ref in content:
        if ref.get("split") == split:
            by_picture.setdefault(id_text(ref.get("image_id")) or "", []).append(ref)
    with Shelf() as boxes:
        for item in stream_items(instances, "annotations.item", problems):
            text = pack(item) if isinstance(item, dict) else None
            if text is not None and id_text(item.get("image_id")) in by_picture:
                boxes.put(id_text(item.get("id")) or "", text)
        for item in stream_items(instances, "images.item", problems):
            key = (id_text(item.get("id")) or "") if isinstance(item, dict) else ""
            picture = _picture(item, key, dataset, pictures, problems) if key and key in by_picture else None
            if picture is not None:
                found = [_of_ref(ref, boxes, refs.name) for ref in by_picture.pop(key)]
                yield _record(picture, found, problems, split)
    for key in by_picture:
        problems.add("unknown picture", refs.name, f"picture {shorten(key)} has no entry in {instances.name}")


def _of_ref(ref: Mapping[str, Any], boxes: Shelf, name: str) -> tuple[str, dict[str, Any], list[Any]]:
    key = id_text(ref.get("ann_id")) or ""
    stored = boxes.take(key)
    sentences = ref.get("sentences")
    return (
        f"{name} reference {shorten(id_text(ref.get('ref_id')) or 'without a number')}",
        (json.loads(stored[0]) if stored else {}) | {"id": key},
        sentences if isinstance(sentences, list) else [],
    )


def _read_mdetr(
    path: Path, problems: Problems, pictures: Path | None, split: str, dataset: str
) -> Iterator[Record]:
    keys: dict[str, str] = {}  # expressions by picture, in order of the pictures
    with Shelf() as boxes, Shelf() as entries:
        for item in stream_items(path, "annotations.item", problems):
            text = pack(item) if isinstance(item, dict) else None
            if text is not None:
                boxes.put(str(item.get("image_id")), text)
        for item in stream_items(path, "images.item", problems):
            text = pack(item) if isinstance(item, dict) else None
            if text is None:
                problems.add(
                    "malformed picture", path.name, f"{shorten(repr(item))} is no entry of a picture"
                )
                continue
            key = str(item.get("original_id", item.get("file_name")))
            keys.setdefault(key, text)
            entries.put(key, text)
        if not keys and not problems.counts:
            raise InputError(f"{path} is not of MDETR's layout: it has no list `images` with entries in it")
        for key, first in keys.items():
            picture = _picture(json.loads(first), key, dataset, pictures, problems)
            if picture is None:
                continue
            found = []
            for text in entries.take(key):
                entry = json.loads(text)
                place = f"{path.name} expression {shorten(entry.get('id'))}"
                stored = boxes.take(str(entry.get("id")))
                sentence = {"sent": entry.get("caption"), "sent_id": entry.get("id")}
                annotation = json.loads(stored[0]) if stored else {}
                annotation["id"] = str(annotation.get("original_id", annotation.get("id")))
                if len(stored) > 1:
                    problems.add("several boxes", place, "an expression has one box")
                    continue
                found.append((place, annotation, [sentence]))
            yield _record(picture, found, problems, split)


def _picture(
    item: Mapping[str, Any], key: str, dataset: str, pictures: Path | None, problems: Problems
) -> PictureReference | None:
    size, file = positive_size(item), path_text(item.get("file_name"))
    if size is None or not file:
        problems.add(
            "malformed picture", f"{dataset} picture {shorten(key)}", "it has no file name or no size"
        )
        return None
    known = (f"coco:{key}",) if whole_id(key) is not None else ()
    same_as = (*known, *flickr_photo(item.get("flickr_url")))
    return PictureReference(locate(file, pictures), *size, dataset, key, same_as)


def _record(
    picture: PictureReference,
    found: list[tuple[str, dict[str, Any], list[Any]]],
    problems: Problems,
    split: str,
) -> Record:
    objects: list[AnnotatedObject] = []
    places: dict[str, int] = {}
    expressions: list[Expression] = []
    for place, annotation, sentences in found:
        key = str(annotation["id"])
        told = [
            (clean(sentence.get("sent")), id_text(sentence.get("sent_id")) or "")
            for sentence in sentences
            if isinstance(sentence, dict) and clean(sentence.get("sent"))
        ]
        if not told:
            problems.add("reference without words", place, "it has no sentences")
            continue
        # The same object may be referred to more than once.
        if key not in places or key in ("", "None"):
            box = place_box(corners_of(annotation.get("bbox")), picture, place, problems)
            if box is None:
                continue
            outline = read_outline(annotation.get("segmentation"), picture, place, problems)
            places[key] = len(objects)
            crowd = annotation.get("iscrowd") in (1, True)
            objects.append(AnnotatedObject(key, box, (told[0][0],), outline=outline, is_crowd=crowd))
        expressions += [Expression(words, places[key], sentence) for words, sentence in told]
    return Record(picture, LICENCE, tuple(objects), expressions=tuple(expressions), split=split)
