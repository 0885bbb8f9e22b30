"""The labels as COCO, YOLO or Label Studio read them, written whole or not at all.

The exporters name a class by what its phrase names and number it by its first mention. A data set needs the
names as they were given, in their order, also of classes that were never found: here they get them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from openferret.answer import Answer
from openferret.errors import InputError
from openferret.exporters import to_coco, to_label_studio, to_yolo
from openferret.labelling.colours import colour_of
from openferret.labelling.job import LabelledPicture, class_of

LOCAL_FILES = "/data/local-files/?d="  # where Label Studio serves the files of its own machine


def write_labels(
    folder: Path,
    form: str,
    names: Sequence[str],
    labelled: Sequence[LabelledPicture],
    image_prefix: str = LOCAL_FILES,
) -> list[Path]:
    """Write the labels in one of the `FORMATS`; a file is either as it was or whole.

    Args:
        folder: where to; it exists.
        form: "coco", "yolo" or "label-studio".
        names: of the classes, in the order of their numbers.
        labelled: the pictures.
        image_prefix: what Label Studio puts before a picture's name to fetch it.

    Returns:
        The files, or for YOLO's labels their folder.

    Raises:
        InputError: the files cannot be written.
    """
    try:
        return FORMATS[form](folder, names, labelled, image_prefix)
    except OSError as error:
        raise InputError(
            f"the labels cannot be written to {str(folder)!r}: {error.strerror or error}"
        ) from error


def check_picture_names(form: str, picture_names: Sequence[str]) -> None:
    """Refuse, before any work is done, pictures whose labels would be one file: InputError."""
    if form == "yolo":
        to_yolo((name, Answer("", (), 1, 1)) for name in picture_names)


def label_config(names: Sequence[str]) -> str:
    """The labelling interface of a Label Studio project that takes these labels."""
    labels = "\n".join(
        f"    <Label value={quoteattr(name)} background={quoteattr(colour_of(number))}/>"
        for number, name in enumerate(names)
    )
    return (
        '<View>\n  <Image name="image" value="$image"/>\n  <RectangleLabels name="label" toName="image">\n'
        f"{labels}\n  </RectangleLabels>\n</View>\n"
    )


def _write_coco(
    folder: Path, names: Sequence[str], labelled: Sequence[LabelledPicture], image_prefix: str
) -> list[Path]:
    exported = to_coco((one.name, one.answer) for one in labelled)
    numbers = {class_of(name): number for number, name in enumerate(names, start=1)}
    renumbered = {one["id"]: numbers[one["name"]] for one in exported["categories"]}
    for annotation in exported["annotations"]:
        annotation["category_id"] = renumbered[annotation["category_id"]]
    exported["categories"] = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    return [_write(folder / "annotations.json", json.dumps(exported))]


def _write_yolo(
    folder: Path, names: Sequence[str], labelled: Sequence[LabelledPicture], image_prefix: str
) -> list[Path]:
    exported = to_yolo((one.name, one.answer) for one in labelled)
    numbers = {class_of(name): number for number, name in enumerate(names)}
    renumbered = [str(numbers[category]) for category in exported.pop("classes.txt").splitlines()]
    with TemporaryDirectory(dir=folder, prefix=".labels-") as scratch:
        made = Path(scratch, "labels")
        made.mkdir()
        for name, content in exported.items():
            lines = (line.split(" ", 1) for line in content.splitlines())
            file = Path(scratch, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{renumbered[int(number)]} {box}\n" for number, box in lines))
        labels = folder / "labels"
        if labels.exists():
            labels.replace(Path(scratch, "before"))
        made.replace(labels)
    # JSON strings are YAML strings.
    listed = "".join(
        f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(names)
    )
    return [
        labels,
        _write(folder / "classes.txt", "".join(f"{name}\n" for name in names)),
        _write(folder / "data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{listed}"),
    ]


def _write_label_studio(
    folder: Path, names: Sequence[str], labelled: Sequence[LabelledPicture], image_prefix: str
) -> list[Path]:
    tasks = to_label_studio((one.name, one.answer) for one in labelled)
    given = {class_of(name): name for name in names}
    for task, one in zip(tasks, labelled, strict=True):
        # A name may hold bytes that are no text: they are quoted one by one.
        task["data"] = {"image": image_prefix + quote(one.name, errors="surrogateescape")}
        (prediction,) = task["predictions"]
        for box in prediction["result"]:
            box["value"]["rectanglelabels"] = [given[box["value"]["rectanglelabels"][0]]]
        if one.scores:  # Label Studio sorts by it: what is doubtful comes first
            prediction["score"] = min(one.scores)
    return [
        _write(folder / "tasks.json", json.dumps(tasks)),
        _write(folder / "label-config.xml", label_config(names)),
    ]


FORMATS: Mapping[str, Callable[..., list[Path]]] = {
    "coco": _write_coco,
    "yolo": _write_yolo,
    "label-studio": _write_label_studio,
}


def _write(target: Path, text: str) -> Path:
    write_whole(target, text.encode())
    return target


def write_whole(target: Path, content: bytes) -> None:
    """Write a file under another name and rename it: a reader sees what was there, or all of it."""
    with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}-", delete=False) as stream:
        scratch = Path(stream.name)
        try:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        except OSError:
            scratch.unlink(missing_ok=True)
            raise
    scratch.chmod(0o644)  # temporary files are their owner's alone
    scratch.replace(target)
