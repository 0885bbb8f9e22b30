"""What is this? Boxes of any annotation file of COCO's layout, right if the answer has the class's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from openferret import prompts
from openferret.eval.metrics.bootstrap import accuracy
from openferret.eval.metrics.choices import names_of, strict_choice
from openferret.eval.questions import Question, Replies, Reply, Spot
from openferret.eval.scores import Benchmark, Case, Figure, Score
from openferret.eval.tasks import coco
from openferret.eval.tasks.ground_classes import Wanted

VERSION = 1
TASK = "name-classes"
QUESTION = prompts.REFER.format(region="[0]")


def load(images: Path, annotations: Path, only: Path | None = None, each: int = 3) -> Benchmark:
    """Reads COCO's `instances_*.json`, or one's own; at most `each` boxes of a class and picture are asked about."""
    data = coco.read_coco(annotations, only)
    order = {key: place for place, key in enumerate(data.pictures)}
    chosen = [one for one in data.instances if one.picture in data.asked]
    chosen.sort(key=lambda one: order[one.picture])
    wanted = [Wanted(one.picture, data.classes[one.class_id].name, (one.box,)) for one in chosen]
    return naming_benchmark(wanted, coco.picture_files(images, data.pictures.values()), each)


def naming_benchmark(wanted: Sequence[Wanted], pictures: Mapping[str, Path], each: int = 3) -> Benchmark:
    """The benchmark of boxes whose classes are known.

    Args:
        wanted: those of one picture together.
        pictures: file of each picture key.
        each: most boxes of a class and picture that are asked about.
    """
    asked: dict[str, tuple[Question, Wanted, int]] = {}
    counts: dict[tuple[str, str], int] = {}
    for one in wanted:
        for place, box in enumerate(one.boxes):
            number = counts.get((one.picture, one.phrase), 0)
            counts[one.picture, one.phrase] = number + 1
            if number < each:
                name = f"{one.picture} {one.phrase} {number}"
                question = Question(name, one.picture, "ask", QUESTION, spots=(Spot("box", box),))
                asked[name] = question, one, place

    def score(questions: Sequence[Question], replies: Replies) -> Score:
        return _score([asked[one.id] for one in questions], replies)

    questions = tuple(question for question, _, _ in asked.values())
    return Benchmark(TASK, VERSION, {"question": QUESTION}, questions, pictures, score)


def _score(asked: Sequence[tuple[Question, Wanted, int]], replies: Replies) -> Score:
    texts = [replies.get(question.id, Reply(None)).text for question, _, _ in asked]
    right = [
        bool(strict_choice(text, names_of(one.phrase), ()))
        for text, (_, one, _) in zip(texts, asked, strict=True)
    ]
    figure = Figure("named", "strict", accuracy([question.picture for question, _, _ in asked], right))
    cases = tuple(
        Case(
            *(question.id, question.picture, "what is this?", float(hit), text, one.phrase),
            truth=(one.boxes[place],),
        )
        for (question, one, place), text, hit in zip(asked, texts, right, strict=True)
    )
    return Score((figure,), (sum(map(bool, texts)), len(asked)), cases)
