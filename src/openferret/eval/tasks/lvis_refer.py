"""Which of two classes is it? Points, boxes and strokes on LVIS or COCO (the paper's referring test).

The paper's set of 2,667 objects was never released; this one is built from any annotation file by a seed: a
point in the mask, the box, a stroke in the mask, and a wrong class that is not on the picture: a `random`
one, or the `hard` one that is most often on pictures together with the right one. Of LVIS only classes are
taken that it says are absent. A file in the layout of Ferret's own set can be given instead; its points and
boxes are read, its free-form masks are not.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openferret.errors import InputError
from openferret.eval.files import read_records
from openferret.eval.metrics.bootstrap import accuracy
from openferret.eval.metrics.boxes import BoxNumbers
from openferret.eval.metrics.choices import names_of, official_choice, strict_choice
from openferret.eval.pointing import KINDS, Kind, seed_of, spot_in_mask
from openferret.eval.questions import Question, Replies, Reply, Spot
from openferret.eval.scores import Benchmark, Case, Figure, Rule, Score
from openferret.eval.tasks import coco

VERSION = 2
QUESTION = "Is the object [0] of the image a {first} or a {second}?"
NEGATIVES = ("random", "hard")
_FREQUENCY = {"r": "rare", "c": "common", "f": "frequent"}
_KIND_NAMES: Mapping[Kind, str] = {"point": "point", "box": "box", "scribble": "free-form"}


@dataclass(frozen=True)
class _Choice:
    question: Question
    kind: Kind
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    frequency: str
    box: BoxNumbers | None


def load(
    images: Path,
    annotations: Path | None = None,
    questions: Path | None = None,
    negatives: str = "random",
    only: Path | None = None,
    objects: int | None = None,
    seed: int = 0,
) -> Benchmark:
    """Builds the set from `annotations`, or reads `questions` in Ferret's layout."""
    if (annotations is None) == (questions is None):
        raise InputError("lvis-refer needs either --annotations or --questions")
    if negatives not in NEGATIVES:
        raise InputError(f"--negatives must be random or hard, not {negatives!r}")
    notes: tuple[str, ...] = ()
    if annotations is not None:
        data = coco.read_coco(annotations, only)
        choices = {one.question.id: one for one in _build(data, negatives == "hard", objects, seed)}
        files = coco.picture_files(images, data.pictures.values())
        notes = (
            *data.notes(),
            f"Built here by seed {seed} with {negatives} wrong classes: not the paper's set.",
        )
    else:
        choices, files = _read(questions, images) if questions else ({}, {})

    def score(asked: Sequence[Question], replies: Replies) -> Score:
        return _score([choices[one.id] for one in asked], replies)

    return Benchmark(
        "lvis-refer",
        VERSION,
        {"question": QUESTION, "order": "the right class first in even rows"},
        tuple(one.question for one in choices.values()),
        files,
        score,
        notes,
    )


def _build(data: coco.CocoFile, hard: bool, objects: int | None, seed: int) -> Iterator[_Choice]:
    on = data.classes_on()
    single, pairs = coco.count_pairs(on.values())
    # Only classes that this file shows somewhere can be wrong: LVIS lists hundreds that it never shows.
    vocabulary = sorted(single)
    chosen = [one for one in data.instances if one.picture in data.asked]
    if objects is not None and objects < len(chosen):
        chosen = random.Random(seed).sample(chosen, objects)
    order = {key: index for index, key in enumerate(data.pictures)}
    chosen.sort(key=lambda one: (order[one.picture], one.id))
    for row, instance in enumerate(chosen):
        picture = data.pictures[instance.picture]
        chance = random.Random(seed_of(seed, instance.id))
        allowed = [one for one in vocabulary if one not in on[instance.picture] and one not in picture.unsure]
        sure = [one for one in allowed if one in picture.absent] if picture.absent else []
        allowed = sure or allowed
        if not allowed:
            continue
        company = pairs.get(instance.class_id, {})
        likely = max(allowed, key=lambda one: (company.get(one, 0), single.get(one, 0), -one))
        wrong_id = likely if hard else chance.choice(allowed)
        right, wrong = data.classes[instance.class_id], data.classes[wrong_id]
        said = [_said(right.name), _said(wrong.name)]
        first, second = said if row % 2 == 0 else reversed(said)
        mask = coco.instance_mask(instance, picture)
        for kind in KINDS:
            spot = spot_in_mask(mask, instance.box, kind, seed_of(seed, instance.id, kind))
            text = QUESTION.format(first=first, second=second)
            question = Question(f"{instance.id} {kind}", picture.key, "ask", text, spots=(spot,))
            names = names_of(right.name, right.synonyms), names_of(wrong.name, wrong.synonyms)
            yield _Choice(question, kind, *names, _FREQUENCY.get(right.frequency, ""), instance.box)


def _said(name: str) -> str:
    return name.replace("_", " ").split("(")[0].strip() or name


def _read(path: Path, images: Path) -> tuple[dict[str, _Choice], dict[str, Path]]:
    """Ferret's `lvis_eval.jsonl`: id, image_path, width, height, bbox_norm, sample_point, name, neg_class."""
    choices: dict[str, _Choice] = {}
    files: dict[str, Path] = {}
    for row, item in enumerate(read_records(path)):
        try:
            key = Path(str(item["image_path"])).name
            files[key] = images / key
            names = [_said(str(item["name"])), _said(str(item["neg_class"]))]
            first, second = names if row % 2 == 0 else reversed(names)
            text = QUESTION.format(first=first, second=second)
            box = _box(item["bbox_norm"])
            right = names_of(str(item["name"]), map(str, item.get("synonyms", ())))
            for kind, spot in _spots(item, box):
                name = f"{item['id']} {kind}"
                if name in choices:
                    raise InputError(f"{path}: id {item['id']} stands twice")
                question = Question(name, key, "ask", text, spots=(spot,))
                choices[name] = _Choice(question, kind, right, names_of(str(item["neg_class"])), "", box)
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise InputError(f"{path}: row {row + 1} is not of Ferret's layout ({problem})") from None
    return choices, files


def _spots(item: Mapping[str, Any], box: BoxNumbers) -> Iterator[tuple[Kind, Spot]]:
    yield "box", Spot("box", box)
    if "sample_point" in item:
        x, y = (float(value) for value in item["sample_point"])
        yield "point", Spot("point", (x / float(item["width"]), y / float(item["height"])))


def _box(numbers: Sequence[Any]) -> BoxNumbers:
    x1, y1, x2, y2 = (float(number) for number in numbers)
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise ValueError("a box that is not finite")
    return x1, y1, x2, y2


def _score(asked: Sequence[_Choice], replies: Replies) -> Score:
    said = [replies.get(one.question.id, Reply(None)) for one in asked]
    texts = [reply.text for reply in said]
    strict = [strict_choice(text, one.right, one.wrong) for one, text in zip(asked, texts, strict=True)]
    # As it was written: a comma of a box ends a denied clause, as it does in the reference.
    written = [reply.text if reply.ferret_words is None else reply.ferret_words for reply in said]
    official = [official_choice(text, one.right) for one, text in zip(asked, written, strict=True)]
    figures = []
    rules: tuple[tuple[Rule, Sequence[bool | None]], ...] = (("official", official), ("strict", strict))
    for rule, verdicts in rules:
        groups: dict[str, list[int]] = {}
        for index, one in enumerate(asked):
            groups.setdefault(_KIND_NAMES[one.kind], []).append(index)
            if one.frequency:
                groups.setdefault(f"{_KIND_NAMES[one.kind]}, {one.frequency}", []).append(index)
        for name in sorted(groups, key=lambda name: (name.count(","), name)):
            members = groups[name]
            pictures = [asked[index].question.picture for index in members]
            right = [bool(verdicts[index]) for index in members]
            figures.append(Figure(f"accuracy, {name}", rule, accuracy(pictures, right)))
    cases = tuple(
        Case(
            *(one.question.id, one.question.picture, one.question.text, float(bool(verdict)), text),
            one.right[0],
            truth=(one.box,) if one.box else (),
        )
        for one, text, verdict in zip(asked, texts, strict, strict=True)
    )
    return Score(tuple(figures), (sum(one is not None for one in strict), len(asked)), cases)
