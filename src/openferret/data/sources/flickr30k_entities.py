"""Flickr30k Entities: five captions a picture, their phrases and boxes.

`Annotations/NAME.xml`, `Sentences/NAME.txt` and `SPLIT.txt` (also one folder up), as published.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from openferret.checks import shorten
from openferret.coordinates import denormalize_box
from openferret.data.files.regular import read_regular_text
from openferret.data.files.xml_files import parse_xml
from openferret.data.problems import Problems
from openferret.data.records import Caption, Phrase, Record
from openferret.data.schema import PictureReference
from openferret.data.sources.reading import measured_picture, require_files, usable_size
from openferret.errors import InputError
from openferret.flickr30k import Caption as Sentence
from openferret.flickr30k import read_boxes, read_caption

LICENCE = "for non-commercial research; the pictures are under the Flickr terms"
TITLE = "Flickr30k Entities"


def read(
    root: Path, problems: Problems, *, pictures: Path | None = None, split: str = "train"
) -> Iterator[Record]:
    """Records, one a picture of the split, in the split's order; only their captions are filled.

    Args:
        root: folder of `Annotations` and `Sentences`.
        problems: is told of pictures that cannot be used.
        pictures: folder of the pictures; if given, boxes are put on pictures of the size that is found there.
        split: name of a list of picture ids, one a line.

    Raises:
        InputError: files are missing.
    """
    listed = root / f"{split}.txt" if (root / f"{split}.txt").is_file() else root.parent / f"{split}.txt"
    expected = {"Annotations": "an XML file a picture", "Sentences": "a text file a picture"}
    if not listed.is_file():
        expected[f"{split}.txt"] = "picture ids of the split"
    require_files(TITLE, root, expected)
    for name in dict.fromkeys(read_regular_text(listed).split()):
        try:
            record = _read_record(root, Path(name).name, pictures, problems, split)
        except InputError as error:
            if problems.strict:
                raise
            problems.add("damaged file", f"picture {shorten(name)}", str(error))
            continue
        if record is not None:
            yield record


def _read_record(
    root: Path, name: str, pictures: Path | None, problems: Problems, split: str
) -> Record | None:
    annotation = root / "Annotations" / f"{name}.xml"
    sentences = root / "Sentences" / f"{name}.txt"
    parsed = parse_xml(annotation)
    boxes = read_boxes(annotation)
    lines = read_regular_text(sentences).splitlines()
    same_as = (f"flickr30k:{name}", f"flickr:{name}")
    file = f"{name}.jpg"
    if pictures is not None:
        measured = measured_picture(file, pictures, "flickr30k_entities", name, problems, same_as)
        if measured is None:
            return None
        picture = measured
    else:
        size = parsed.find("size")
        found = usable_size(*(float(size.findtext(side)) for side in ("width", "height")))
        if found is None:
            raise InputError(f"{annotation.name} gives its picture no size that can be used")
        picture = PictureReference(file, *found, "flickr30k_entities", name, same_as)
    captions = (read_caption(line, boxes) for line in lines if line.strip())
    told = tuple(_caption(one, str(number), picture) for number, one in enumerate(captions))
    return Record(picture, LICENCE, captions=told, split=split)


def _caption(sentence: Sentence, key: str, picture: PictureReference) -> Caption:
    phrases = tuple(
        Phrase(
            one.text,
            one.span,
            tuple(denormalize_box(box, picture.width, picture.height) for box in one.boxes),
            one.kind,
            one.entity,
        )
        for one in sentence.phrases
    )
    return Caption(sentence.text, phrases, key)
