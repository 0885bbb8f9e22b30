"""Referring expressions: RefCOCO, RefCOCO+ and RefCOCOg, one box for each expression.

`official` is Ferret's scorer: boxes read by its own parser, rounded to whole pixels, right if the first one
has IoU >= 0.5. It writes three figures (first box, mean of the boxes, best of the boxes) in sorted order;
here each has its name. `strict` takes the first box as the reply has it; an answer without a box is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openferret.errors import InputError
from openferret.eval.files import read_json, read_pickle
from openferret.eval.metrics.bootstrap import accuracy
from openferret.eval.metrics.boxes import BoxNumbers, area, best_overlap
from openferret.eval.metrics.official import read_boxes, to_pixels
from openferret.eval.questions import Question, Replies, Reply
from openferret.eval.scores import Benchmark, Case, Figure, Rule, Score

VERSION = 2
PROMPTS = {"question": "ground: the expression without commas; a box in any case"}


@dataclass(frozen=True)
class _Expression:
    question: Question
    dataset: str
    box: BoxNumbers  # 0..1
    pixels: BoxNumbers
    width: int
    height: int


def load(
    images: Path,
    annotations: Path | None = None,
    refs: Path | None = None,
    instances: Path | None = None,
    split: str | None = None,
) -> Benchmark:
    """Reads MDETR's `finetune_refcoco*_SPLIT.json`, or the original `refs(*).p` with `instances.json`."""
    if annotations is not None and refs is None:
        found = list(_read_mdetr(annotations))
    elif refs is not None and instances is not None and split is not None and annotations is None:
        found = list(_read_refs(refs, instances, split))
    else:
        raise InputError("refexp needs either --annotations, or --refs with --instances and --split")
    kept = [one for one in found if area(one.box)]
    expressions = {one.question.id: one for one in kept}
    if len(expressions) < len(kept):
        raise InputError(f"{annotations or refs}: {len(kept) - len(expressions)} ids stand twice")

    def score(asked: Sequence[Question], replies: Replies) -> Score:
        return _score([expressions[one.id] for one in asked], replies)

    return Benchmark(
        "refexp",
        VERSION,
        PROMPTS,
        tuple(one.question for one in kept),
        {one.question.picture: images / one.question.picture for one in kept},
        score,
        (f"{len(found) - len(kept)} expressions whose box has no area were left out.",),
    )


def _read_mdetr(path: Path) -> Iterator[_Expression]:
    content = read_json(path)
    try:
        boxes: dict[str, list[Any]] = {}
        for item in content["annotations"]:
            if str(item["image_id"]) in boxes:
                raise InputError(f"{path}: expression {item['image_id']} has two boxes")
            boxes[str(item["image_id"])] = item["bbox"]
        for item in content["images"]:
            name = Path(str(item.get("file_name", f"{item['id']}.jpg"))).name
            if str(item["id"]) not in boxes:
                raise InputError(f"{path}: expression {item['id']} has no box")
            yield _expression(
                str(item["id"]),
                name,
                str(item["caption"]),
                str(item.get("dataset_name", "refcoco")),
                boxes[str(item["id"])],
                item,
            )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, OverflowError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} is not of MDETR's layout finetune_refcoco*.json ({problem})") from None


def _read_refs(path: Path, instances: Path, split: str) -> Iterator[_Expression]:
    content, refs = read_json(instances), read_pickle(path)
    try:
        boxes = {item["id"]: item["bbox"] for item in content["annotations"]}
        pictures = {item["id"]: item for item in content["images"]}
        splits = {str(ref["split"]) for ref in refs}
        if split not in splits:
            raise InputError(f"{path} has no split {split!r}: give one of {', '.join(sorted(splits))}")
        for ref in refs:
            if ref["split"] == split:
                picture = pictures[ref["image_id"]]
                for sentence in ref["sentences"]:
                    yield _expression(
                        str(sentence["sent_id"]),
                        Path(str(picture["file_name"])).name,
                        str(sentence["sent"]),
                        path.parent.name or "refcoco",
                        boxes[ref["ann_id"]],
                        picture,
                    )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, OverflowError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} and {instances} are not of RefCOCO's layout ({problem})") from None


def _expression(
    key: str, name: str, caption: str, dataset: str, bbox: Sequence[Any], picture: Mapping[str, Any]
) -> _Expression:
    width, height = int(picture["width"]), int(picture["height"])
    x, y, w, h = (float(value) for value in bbox)
    if not all(map(math.isfinite, (x, y, w, h))):
        raise ValueError(f"the box of expression {key} is not finite")
    box = (x / width, y / height, (x + w) / width, (y + h) / height)
    words = " ".join(caption.replace(",", "").split())
    question = Question(key, name, "ground", phrases=(words or "object",), forced=True)
    return _Expression(question, dataset, box, (x, y, x + w, y + h), width, height)


def _official(reply: Reply, one: _Expression) -> list[BoxNumbers]:
    """All boxes as the reference has them, in whole pixels; one of area 0 if there is none."""
    if reply.ferret_words is not None:
        written = [box for _, box in read_boxes(reply.ferret_words) or ()]
    else:
        written = [_bins(box) for box in reply.boxes]
    return [to_pixels(box, one.width, one.height) for box in written] or [(0, 0, 0, 0)]


def _bins(box: BoxNumbers) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (int(min(max(value, 0.0), 0.9999) * 1000) if value == value else 0 for value in box)
    return x1, y1, x2, y2


def _mean_box(boxes: Sequence[BoxNumbers]) -> BoxNumbers:
    x1, y1, x2, y2 = (sum(side) / len(boxes) for side in zip(*boxes, strict=True))
    return x1, y1, x2, y2


def _score(asked: Sequence[_Expression], replies: Replies) -> Score:
    said = [replies.get(one.question.id, Reply(None)) for one in asked]
    figures: list[Figure] = []
    datasets = sorted({one.dataset for one in asked})
    for dataset in datasets:
        label = f", {dataset}" if len(datasets) > 1 else ""
        chosen = [(one, reply) for one, reply in zip(asked, said, strict=True) if one.dataset == dataset]
        pictures = [one.question.picture for one, _ in chosen]

        def add(
            name: str, rule: Rule, values: Sequence[float], label: str = label, pictures: list[str] = pictures
        ) -> None:
            figures.append(Figure(name + label, rule, accuracy(pictures, values)))

        # Whole pixels often give an IoU of exactly 0.5, which fractions of the picture's size would miss.
        boxes = [(_official(reply, one), one.pixels) for one, reply in chosen]
        add("Acc@0.5", "official", [best_overlap(found[:1], [truth]) >= 0.5 for found, truth in boxes])
        means = [best_overlap([_mean_box(found)], [truth]) >= 0.5 for found, truth in boxes]
        add("Acc@0.5 of the mean box", "official", means)
        add(
            "Acc@0.5 of the best box",
            "official",
            [best_overlap(found, [truth]) >= 0.5 for found, truth in boxes],
        )
        first = [best_overlap(reply.boxes[:1], [one.box]) for one, reply in chosen]
        for threshold in (0.5, 0.25, 0.75):
            add(f"Acc@{threshold}", "strict", [overlap >= threshold for overlap in first])
        add("mean IoU", "strict", first)
        add("any box, Acc@0.5", "strict", [best_overlap(r.boxes, [one.box]) >= 0.5 for one, r in chosen])
        add("unparsed", "strict", [not reply.boxes for _, reply in chosen])
    valid = sum(bool(reply.boxes) for reply in said)
    cases = tuple(
        Case(
            *(one.question.id, one.question.picture, one.question.phrases[0]),
            best_overlap(reply.boxes[:1], [one.box]),
            reply.text,
            "",
            tuple(reply.boxes[:5]),
            (one.box,),
        )
        for one, reply in zip(asked, said, strict=True)
    )
    return Score(tuple(figures), (valid, len(asked)), cases)
