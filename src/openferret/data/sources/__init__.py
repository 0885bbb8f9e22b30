"""The sources that can be read: their readers, licences, and how each is laid out when it is published.

A reader is a function `read(root, problems, *, pictures=None, ...)` that yields a `Record` a picture, in a fixed
order, and holds little of the source at a time. Nothing is unpacked: archives are for their owner to open.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from openferret.checks import shorten
from openferret.data.problems import Problems
from openferret.data.records import Record
from openferret.errors import InputError


@dataclass(frozen=True)
class SourceKind:
    """A source that can be read.

    Args:
        name: as a recipe writes it.
        title: for people.
        licence: of the annotation, as its authors state it; "" for one's own.
        layout: the files that are read, below the root.
        module: of the reader, below this package.
        function: the reader in it.
    """

    name: str
    title: str
    licence: str
    layout: tuple[str, ...]
    module: str
    function: str = "read"

    def reader(self) -> Callable[..., Iterator[Record]]:
        """The reader itself."""
        found: Callable[..., Iterator[Record]] = getattr(
            import_module(f"{__name__}.{self.module}"), self.function
        )
        return found

    def options(self) -> dict[str, Any]:
        """The reader's settings and what they are if not given.

        >>> SOURCES["coco"].options()
        {'split': 'train2017'}
        """
        known = inspect.signature(self.reader()).parameters.values()
        return {
            one.name: one.default for one in known if one.kind is one.KEYWORD_ONLY and one.name != "pictures"
        }


_CC_BY = "CC BY 4.0"
_KINDS = (
    SourceKind(
        "visual_genome",
        "Visual Genome",
        _CC_BY,
        (
            "image_data.json",
            "objects.json",
            "attributes.json",
            "relationships.json",
            "region_descriptions.json",
            "question_answers.json",
        ),
        "visual_genome",
    ),
    SourceKind(
        "objects365",
        "Objects365 v1, v2",
        _CC_BY,
        ("zhiyuan_objv2_SPLIT.json or objects365_SPLIT.json",),
        "objects365",
    ),
    SourceKind(
        "coco",
        "COCO",
        _CC_BY,
        ("annotations/instances_SPLIT.json", "annotations/captions_SPLIT.json (if there)"),
        "coco",
    ),
    SourceKind("lvis", "LVIS v0.5, v1", _CC_BY, ("lvis_v1_SPLIT.json or lvis_v0.5_SPLIT.json",), "lvis"),
    SourceKind(
        "pascal_voc",
        "Pascal VOC",
        "not stated by its authors; the pictures are under the Flickr terms",
        ("Annotations/*.xml", "ImageSets/Main/SPLIT.txt"),
        "pascal_voc",
    ),
    SourceKind(
        "refcoco",
        "RefCOCO, RefCOCO+, RefCOCOg",
        "not stated by its authors (their code: Apache-2.0)",
        ("refs(*).p and instances.json", "or finetune_DATASET_SPLIT.json (MDETR)"),
        "refcoco",
    ),
    SourceKind(
        "flickr30k_entities",
        "Flickr30k Entities",
        "for non-commercial research; the pictures are under the Flickr terms",
        ("Annotations/*.xml", "Sentences/*.txt", "SPLIT.txt"),
        "flickr30k_entities",
    ),
    SourceKind(
        "llava_instruct",
        "LLaVA-Instruct",
        "CC BY-NC 4.0",
        ("llava_instruct_150k.json, or a part of it",),
        "llava_instruct",
    ),
    SourceKind("coco_json", "one's own COCO json", "", ("*.json",), "coco", "read_own"),
    SourceKind(
        "yolo",
        "one's own YOLO folder",
        "",
        ("data.yaml or classes.txt", "images/SPLIT/*", "labels/SPLIT/*.txt"),
        "yolo",
    ),
    SourceKind("label_studio", "one's own Label Studio export", "", ("*.json",), "label_studio"),
    SourceKind("cvat", "one's own CVAT for images XML", "", ("annotations.xml",), "cvat"),
    SourceKind("boxes_csv", "one's own CSV of boxes", "", ("*.csv",), "boxes_csv"),
    SourceKind(
        "mask_folder", "one's own folder of masks", "", ("images/*", "masks/PICTURE/LABEL.png"), "mask_folder"
    ),
)
SOURCES: Mapping[str, SourceKind] = MappingProxyType({kind.name: kind for kind in _KINDS})


def read_source(
    kind: str, root: Path, problems: Problems, pictures: Path | None = None, **options: Any
) -> Iterator[Record]:
    """The records of a source, one a picture, in a fixed order.

    Args:
        kind: a name in `SOURCES`.
        root: the source's folder, or its one file.
        problems: is told of records that cannot be used; a strict one raises the first.
        pictures: folder of the pictures, that `PictureReference.file` is below; None if they are not needed.
        options: settings of the reader; see `SourceKind.options`.

    Raises:
        InputError: an unknown source or setting, or files that are missing: all of them are named at once.
    """
    source = SOURCES.get(kind)
    if source is None:
        raise InputError(f"{shorten(repr(kind))} is not a source; known are {', '.join(SOURCES)}")
    known = source.options()
    for name, value in options.items():
        if name not in known:
            listed = ", ".join(known) or "none"
            raise InputError(f"{kind} has no option {shorten(repr(name))}; it has: {listed}")
        if not isinstance(value, type(known[name])):
            wanted = type(known[name]).__name__
            raise InputError(f"the option {name} of {kind} must be {wanted}, not {shorten(repr(value))}")
    if not root.exists():
        raise InputError(f"{root} does not exist: give the folder of {source.title}, with {source.layout[0]}")
    if pictures is not None and not pictures.is_dir():
        raise InputError(f"{pictures} is not a folder: give the one that holds the pictures")
    if root.is_file() and root.suffix.lower() in (".zip", ".tar", ".gz", ".xz", ".7z", ".tgz"):
        raise InputError(
            f"{root} is an archive, and nothing is unpacked here: unpack it, and give its folder"
        )
    return source.reader()(root, problems, pictures=pictures, **options)
