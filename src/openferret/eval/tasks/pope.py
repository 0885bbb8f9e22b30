"""POPE: is there a ...? Half of the questions are about what is not there (arXiv 2305.10355).

Published files are read as they are; sets can also be built from any COCO file, as the paper does: for a
picture with at least three classes, three that are on it and three that are not, which are `random`, the most
`popular` ones, or (`adversarial`) those most often seen together with the ones that are there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from openferret.errors import InputError
from openferret.eval.files import read_json_lines
from openferret.eval.metrics import yesno
from openferret.eval.metrics.bootstrap import Statistic, estimate, sum_by_picture
from openferret.eval.pointing import seed_of
from openferret.eval.questions import Question, Replies, Reply
from openferret.eval.scores import Benchmark, Case, Figure, Rule, Score
from openferret.eval.tasks import coco

VERSION = 2
QUESTION = "Is there {article} {name} in the image?"
SETS = ("random", "popular", "adversarial")
_EACH = 3
_METRICS: tuple[tuple[str, Statistic], ...] = (
    ("accuracy", yesno.accuracy_of),
    ("precision", yesno.precision_of),
    ("recall", yesno.recall_of),
    ("F1", yesno.f1_of),
    ("said yes", yesno.yes_share_of),
)


@dataclass(frozen=True)
class _Item:
    question: Question
    chosen_by: str
    truth: yesno.YesNo


def load(
    images: Path,
    questions: Sequence[Path] = (),
    annotations: Path | None = None,
    only: Path | None = None,
    seed: int = 0,
) -> Benchmark:
    """Reads `coco_pope_*.json`, one file or several, or builds all three sets from `annotations`."""
    if bool(questions) == (annotations is not None):
        raise InputError("pope needs either --questions or --annotations")
    notes: tuple[str, ...] = ()
    if annotations is not None:
        data = coco.read_coco(annotations, only)
        items = [item for kind in SETS for item in _build(data, kind, seed)]
        files = coco.picture_files(images, data.pictures.values())
        notes = (*data.notes(), f"Built here by seed {seed}: not the published sets.")
    else:
        items = [item for path in questions for item in _read(path, prefixed=len(questions) > 1)]
        pictures = [coco.CocoPicture(item.question.picture, item.question.picture, 1, 1) for item in items]
        files = coco.picture_files(images, pictures)
    by_id = {item.question.id: item for item in items}
    if len(by_id) < len(items):
        raise InputError("pope: two files of the same name were given")

    def score(asked: Sequence[Question], replies: Replies) -> Score:
        return _score([by_id[one.id] for one in asked], replies)

    return Benchmark(
        "pope",
        VERSION,
        {"question": QUESTION if annotations else "as the file has it"},
        tuple(item.question for item in items),
        files,
        score,
        notes,
    )


def _read(path: Path, prefixed: bool) -> Iterator[_Item]:
    kind = next((one for one in SETS if one in path.stem), path.stem)
    seen: set[str] = set()
    for number, item in read_json_lines(path):
        truth = item.get("label")
        if not {"question_id", "image", "text"} <= item.keys() or truth not in ("yes", "no"):
            raise InputError(f"{path} line {number} lacks question_id, image, text, or label yes or no")
        name = str(item["question_id"])
        if name in seen:
            raise InputError(f"{path} line {number} has the question_id {name} of an earlier line")
        seen.add(name)
        picture = Path(str(item["image"])).name
        question = Question(f"{path.stem} {name}" if prefixed else name, picture, "ask", str(item["text"]))
        yield _Item(question, kind, "yes" if truth == "yes" else "no")


def _build(data: coco.CocoFile, kind: str, seed: int) -> Iterator[_Item]:
    on = data.classes_on()
    single, pairs = coco.count_pairs(on.values())
    for key, classes in on.items():
        if key not in data.asked or len(classes) < _EACH:
            continue
        chance = random.Random(seed_of(seed, key))
        present = chance.sample(sorted(classes), _EACH)
        picture = data.pictures[key]
        allowed = [
            one
            for one in sorted(single)
            if one not in classes and (not picture.absent or one in picture.absent)
        ]
        together = {one: sum(pairs[other].get(one, 0) for other in classes) for one in allowed}
        chance.shuffle(allowed)
        ways: dict[str, Callable[[int], float]] = {
            "random": lambda _: 0.0,
            "popular": lambda one: -single[one],
            "adversarial": lambda one, together=together: -together[one],  # type: ignore[misc]
        }
        absent = sorted(allowed, key=ways[kind])[:_EACH]
        for truth, chosen in (("yes", present), ("no", absent)):
            for one in chosen:
                name = data.classes[one].name.replace("_", " ")
                text = QUESTION.format(article="an" if name[0] in "aeiou" else "a", name=name)
                question = Question(f"{kind} {key} {one}", key, "ask", text)
                yield _Item(question, kind, "yes" if truth == "yes" else "no")


def _score(asked: Sequence[_Item], replies: Replies) -> Score:
    said = [replies.get(item.question.id, Reply(None)) for item in asked]
    official: list[yesno.YesNo | None] = [
        yesno.official_answer(reply.text if reply.ferret_words is None else reply.ferret_words)
        for reply in said
    ]
    strict = [yesno.strict_answer(reply.text) for reply in said]
    figures = []
    rules: tuple[tuple[Rule, Sequence[yesno.YesNo | None]], ...] = (
        ("official", official),
        ("strict", strict),
    )
    kinds = list(dict.fromkeys(item.chosen_by for item in asked))
    for rule, verdicts in rules:
        for kind in kinds:
            rows = [
                (item.question.picture, yesno.confusion(verdict, item.truth))
                for item, verdict in zip(asked, verdicts, strict=True)
                if item.chosen_by == kind
            ]
            counted = sum_by_picture([picture for picture, _ in rows], [row for _, row in rows])
            figures += [
                Figure(f"{name}, {kind}", rule, estimate(counted, statistic, len(rows)))
                for name, statistic in _METRICS
            ]
    cases = tuple(
        Case(
            *(item.question.id, item.question.picture, item.question.text, float(verdict == item.truth)),
            *(reply.text, item.truth, tuple(reply.boxes)),
        )
        for item, reply, verdict in zip(asked, said, strict, strict=True)
    )
    notes = ("Under the strict rule an answer that says neither yes nor no is wrong; officially it is yes.",)
    return Score(tuple(figures), (sum(one is not None for one in strict), len(asked)), cases, (), notes)
