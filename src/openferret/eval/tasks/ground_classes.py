"""Where is each class? R@1, and boxes found, of any annotation file of COCO's layout: one's own labels too.

A picture is asked for every class that is on it, twice: for one box around all of it (merged, given in any case:
R@1 as in Ferret's grounding tests), and for a box of each instance, which may also be "not in the picture". And it
is asked for a few classes that are not on it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openferret.eval.metrics.bootstrap import FloatArray, divide, estimate, ratio, sum_by_picture
from openferret.eval.metrics.boxes import BoxNumbers, hull, intersection_over_union
from openferret.eval.pointing import seed_of
from openferret.eval.questions import Question, Replies
from openferret.eval.scores import Benchmark, Case, Figure, Score
from openferret.eval.tasks import coco

VERSION = 2
TASK = "ground-classes"
PROMPTS = {
    "merged": "ground: one class, merged; a box in any case",
    "each": "ground: one class, a box for each instance; boxes only if it is there",
}
RIGHT = 0.5  # IoU from which a box is right
_LISTED = 20  # classes that have figures of their own


@dataclass(frozen=True)
class Wanted:
    """A phrase, the picture it is asked of, and its boxes there in 0..1: none if it is not there."""

    picture: str
    phrase: str
    boxes: tuple[BoxNumbers, ...]


def load(
    images: Path, annotations: Path, only: Path | None = None, absent: int = 2, seed: int = 0
) -> Benchmark:
    """Reads COCO's `instances_*.json`, or one's own; `absent` classes that are not there are asked of a picture."""
    data = coco.read_coco(annotations, only)
    found: dict[tuple[str, int], list[BoxNumbers]] = {}
    for one in data.instances:
        found.setdefault((one.picture, one.class_id), []).append(one.box)
    shown = sorted({class_id for _, class_id in found})
    on = data.classes_on()  # a crowd is asked for no box, and is not absent either
    wanted = []
    for key in data.pictures:
        if key not in data.asked:
            continue
        here = [one for one in shown if (key, one) in found]
        other = [one for one in shown if one not in on[key]]
        chosen = random.Random(seed_of(seed, key)).sample(other, min(absent, len(other)))
        wanted += [Wanted(key, data.classes[one].name, tuple(found[key, one])) for one in here]
        wanted += [Wanted(key, data.classes[one].name, ()) for one in chosen]
    files = coco.picture_files(images, data.pictures.values())
    return grounding_benchmark(wanted, files, data.notes())


def grounding_benchmark(
    wanted: Sequence[Wanted], pictures: Mapping[str, Path], notes: tuple[str, ...] = ()
) -> Benchmark:
    """The benchmark of phrases whose boxes are known.

    Args:
        wanted: those of one picture together, a phrase once.
        pictures: file of each picture key.
        notes: sentences about what was left out.
    """
    asked = {question.id: (question, one) for one in wanted for question in _questions(one)}

    def score(questions: Sequence[Question], replies: Replies) -> Score:
        return _score([asked[one.id] for one in questions], replies)

    return Benchmark(
        TASK, VERSION, PROMPTS, tuple(question for question, _ in asked.values()), pictures, score, notes
    )


def _questions(one: Wanted) -> Iterator[Question]:
    name = f"{one.picture} {one.phrase}"
    if one.boxes:
        yield Question(
            f"{name} merged", one.picture, "ground", phrases=(one.phrase,), merge=True, forced=True
        )
    yield Question(f"{name} each", one.picture, "ground", phrases=(one.phrase,))


def _score(asked: Sequence[tuple[Question, Wanted]], replies: Replies) -> Score:
    merged: list[tuple[Wanted, float]] = []
    counted: list[tuple[Wanted, tuple[float, float, float]]] = []
    cases, valid = [], 0
    for question, one in asked:
        reply = replies.get(question.id)
        valid += reply is not None and reply.answer is not None
        boxes = reply.boxes if reply else []
        if question.merge:
            value = float(bool(boxes) and intersection_over_union(boxes[0], hull(one.boxes)) >= RIGHT)
            merged.append((one, value))
        else:
            right = _matches(boxes, one.boxes)
            value = float(right == len(one.boxes) == len(boxes))
            counted.append((one, (right, len(boxes), len(one.boxes))))
        title = f"{one.phrase}, in one box" if question.merge else one.phrase
        said = f"{len(boxes)} boxes" if boxes else "not in the picture"
        wanted = f"{len(one.boxes)} boxes" if one.boxes else "not in the picture"
        cases.append(Case(question.id, one.picture, title, value, said, wanted, tuple(boxes), one.boxes))
    return Score(tuple(_figures(merged, counted)), (valid, len(asked)), tuple(cases))


def _figures(
    merged: Sequence[tuple[Wanted, float]],
    counted: Sequence[tuple[Wanted, tuple[float, float, float]]],
) -> Iterator[Figure]:
    pictures = [one.picture for one, _ in merged]
    rows = [(value, 1.0) for _, value in merged]
    yield Figure("R@1", "strict", estimate(sum_by_picture(pictures, rows), ratio, len(rows)))
    sums = sum_by_picture([one.picture for one, _ in counted], [counts for _, counts in counted])
    yield Figure("F1 of boxes", "strict", estimate(sums, _f1, len(counted)))
    for name, there in (("said to be there, of what is", True), ("said to be there, of what is not", False)):
        chosen = [(one.picture, float(counts[1] > 0)) for one, counts in counted if bool(one.boxes) == there]
        said = sum_by_picture([picture for picture, _ in chosen], [(value, 1.0) for _, value in chosen])
        yield Figure(name, "strict", estimate(said, ratio, len(chosen)))
    phrases = list(dict.fromkeys(one.phrase for one, _ in merged))
    if 1 < len(phrases) <= _LISTED:
        for phrase in sorted(phrases):
            own = [(one.picture, (value, 1.0)) for one, value in merged if one.phrase == phrase]
            by_picture = sum_by_picture([picture for picture, _ in own], [row for _, row in own])
            yield Figure(f"R@1, {phrase}", "strict", estimate(by_picture, ratio, len(own)))


def _matches(boxes: Sequence[BoxNumbers], truth: Sequence[BoxNumbers]) -> int:
    """How many boxes, best first, are right, each true box counting for one."""
    left, right = list(truth), 0
    for box in boxes:
        overlaps = [intersection_over_union(box, one) for one in left]
        if overlaps and max(overlaps) >= RIGHT:
            left.pop(overlaps.index(max(overlaps)))
            right += 1
    return right


def _f1(sums: FloatArray) -> FloatArray:
    return divide(2 * sums[..., 0], sums[..., 1] + sums[..., 2])
