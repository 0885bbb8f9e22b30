"""Answers for other tools: COCO json, YOLO labels, Label Studio tasks, `supervision.Detections`.

A phrase becomes a category by what it names: "A man" and "the man" are both "man". Answers come with the name
of their picture, as the tool shall find it. Categories are in the order of their first mention.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

from .answer import Answer, LocatedBox, Mention
from .errors import InputError, OpenFerretError
from .phrases import without_determiner

if TYPE_CHECKING:
    import supervision

NamedAnswers: TypeAlias = Iterable[tuple[str, Answer]]


def to_coco(named_answers: NamedAnswers) -> dict[str, Any]:
    """COCO detection json: images, categories, annotations with `bbox` [x, y, width, height] in pixels.

    An annotation also has the `phrase` as it was written and, where there is one, the box's `score`.

    >>> from openferret.answer import parse_answer
    >>> answer = parse_answer("a man [100, 100, 500, 500] waves", 1000, 1000)
    >>> to_coco([("a.jpg", answer)])["annotations"][0]["bbox"]
    [100.5, 100.5, 400.0, 400.0]
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories: dict[str, int] = {}
    for image_id, (name, answer) in enumerate(named_answers, start=1):
        images.append({"id": image_id, "file_name": name, "width": answer.width, "height": answer.height})
        for category, mention, box in _boxes(answer):
            x1, y1, x2, y2 = box.pixels
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": categories.setdefault(category, len(categories) + 1),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                "segmentation": [],
                "phrase": mention.phrase,
            }
            annotations.append(annotation | ({} if box.score is None else {"score": box.score}))
    named = [{"id": category_id, "name": category} for category, category_id in categories.items()]
    return {"images": images, "categories": named, "annotations": annotations}


def to_yolo(named_answers: NamedAnswers) -> dict[str, str]:
    """YOLO label files: path -> content, to be written below one folder.

    `classes.txt` has a category per line; `labels/<picture>.txt` has a line `class x y width height` per box,
    0..1, x and y of the box's centre. A picture's folders are kept; what would lead out of the folder is not.

    Raises:
        InputError: two pictures whose label file would be the same.

    >>> from openferret.answer import parse_answer
    >>> answer = parse_answer("a man [100, 100, 500, 500] waves", 1000, 1000)
    >>> to_yolo([("a.jpg", answer)])["labels/a.txt"].split()
    ['0', '0.300500', '0.300500', '0.400000', '0.400000']
    """
    files: dict[str, str] = {}
    categories: dict[str, int] = {}
    for name, answer in named_answers:
        lines = []
        for category, _, box in _boxes(answer):
            x1, y1, x2, y2 = box.normalized
            place = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
            number = categories.setdefault(category, len(categories))
            lines.append(" ".join([str(number), *(f"{value:.6f}" for value in place)]) + "\n")
        path = _label_path(name)
        if path in files:
            raise InputError(f"two pictures would write {path}; their names must differ before the suffix")
        files[path] = "".join(lines)
    return files | {"classes.txt": "".join(f"{category}\n" for category in categories)}


def to_label_studio(named_answers: NamedAnswers) -> list[dict[str, Any]]:
    """Label Studio tasks with predictions, for a labelling interface with `<RectangleLabels name="label">`.

    Boxes are in percent of the picture's width and height; a task's `image` is the picture's name.

    >>> from openferret.answer import parse_answer
    >>> answer = parse_answer("a man [100, 100, 500, 500] waves", 1000, 1000)
    >>> to_label_studio([("a.jpg", answer)])[0]["predictions"][0]["result"][0]["value"]["rectanglelabels"]
    ['man']
    """
    return [
        {
            "data": {"image": name, "text": answer.text},
            "predictions": [{"model_version": answer.model, "result": _label_studio_boxes(answer)}],
        }
        for name, answer in named_answers
    ]


def to_supervision(answer: Answer) -> supervision.Detections:
    """`supervision.Detections` of one answer: `xyxy` in pixels, `class_name` and `phrase` in `data`.

    `confidence` is None unless every box has a score; `class_id` counts the answer's own categories.

    Raises:
        OpenFerretError: the package `supervision` is not installed.

    >>> to_supervision(Answer("nothing", (), 640, 480)).is_empty()
    True
    """
    import numpy as np

    try:
        with warnings.catch_warnings():
            # Its import warns that it does without OpenCV, which does not concern boxes.
            warnings.simplefilter("ignore", UserWarning)
            from supervision import Detections
    except ImportError:
        raise OpenFerretError("supervision is not installed; run: pip install supervision") from None
    boxes = list(_boxes(answer))
    if not boxes:
        return Detections.empty()
    categories = list(dict.fromkeys(category for category, _, _ in boxes))
    scores = [box.score for _, _, box in boxes if box.score is not None]
    return Detections(
        xyxy=np.array([box.pixels for _, _, box in boxes], dtype=np.float32),
        confidence=np.array(scores, dtype=np.float32) if len(scores) == len(boxes) else None,
        class_id=np.array([categories.index(category) for category, _, _ in boxes]),
        data={
            "class_name": np.array([category for category, _, _ in boxes]),
            "phrase": np.array([mention.phrase for _, mention, _ in boxes]),
        },
    )


def _label_path(name: str) -> str:
    """Below `labels`, whatever the name: it may have come with the answer from elsewhere."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return str(
        PurePosixPath("labels", *(part for part in parts if part not in {"/", ".", ".."})).with_suffix(".txt")
    )


def _label_studio_boxes(answer: Answer) -> list[dict[str, Any]]:
    results = []
    for number, (category, _, box) in enumerate(_boxes(answer), start=1):
        x1, y1, x2, y2 = (100 * value for value in box.normalized)
        place = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0}
        result = {
            "id": f"box{number}",
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": answer.width,
            "original_height": answer.height,
            "image_rotation": 0,
            "value": place | {"rectanglelabels": [category]},
        }
        results.append(result | ({} if box.score is None else {"score": box.score}))
    return results


def _boxes(answer: Answer) -> Iterator[tuple[str, Mention, LocatedBox]]:
    for mention in answer.mentions:
        category = without_determiner(mention.phrase) or "object"
        yield from ((category, mention, box) for box in mention.boxes)
