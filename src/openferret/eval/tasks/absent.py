"""Saying "not in the picture" when it is so, and only then (Flickr30k Entities).

A picture is asked for phrases of its own and for as many of other pictures, chosen by a seed, whose head noun
no phrase of this picture has; a person is never taken for absent where people are. A reply without a box says
that the thing is not there.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from openferret.eval.metrics import yesno
from openferret.eval.metrics.bootstrap import estimate, sum_by_picture
from openferret.eval.questions import Question, Replies
from openferret.eval.scores import Benchmark, Case, Figure, Score
from openferret.eval.tasks.entities import Picture, picture_files, read_pictures
from openferret.nouns import head_noun

VERSION = 1
PROMPTS = {"question": "ground: one phrase, lower case; boxes only if it is there"}


def load(root: Path, images: Path, split_file: Path, seed: int = 0, each: int = 4) -> Benchmark:
    """Reads the split; `each` phrases of a picture and as many absent ones are asked."""
    pictures = read_pictures(root, split_file)
    truth = {
        question.id: (question, absent)
        for picture in pictures
        for question, absent in _questions(picture, pictures, seed, each)
    }

    def score(asked: Sequence[Question], replies: Replies) -> Score:
        return _score([truth[one.id] for one in asked], replies)

    return Benchmark(
        "absent",
        VERSION,
        PROMPTS,
        tuple(question for question, _ in truth.values()),
        picture_files(images, pictures),
        score,
    )


def _questions(
    picture: Picture, pictures: Sequence[Picture], seed: int, each: int
) -> Iterator[tuple[Question, bool]]:
    chance = random.Random(zlib.crc32(f"{seed} {picture.name}".encode()))
    present = sorted({target.words.lower() for one in picture.sentences for target in one.targets})
    chance.shuffle(present)
    present = present[:each]
    yield from ((_question(picture, words, "present"), False) for words in present)
    phrases = [phrase for one in picture.sentences for phrase in one.phrases]
    heads = {head_noun(phrase.text) for phrase in phrases}
    people = any(phrase.kind == "people" for phrase in phrases)
    absent: dict[str, None] = {}
    for _ in range(100 * each):
        if len(absent) == len(present):
            break
        sentences = chance.choice(pictures).sentences
        targets = chance.choice(sentences).targets if sentences else ()
        if targets:
            target = chance.choice(targets)
            head = head_noun(target.words)
            if head and head not in heads and not (people and "people" in target.kinds):
                absent[target.words.lower()] = None
    yield from ((_question(picture, words, "absent"), True) for words in absent)


def _question(picture: Picture, words: str, truth: str) -> Question:
    return Question(f"{picture.name} {truth} {words}", picture.name, "ground", phrases=(words,))


def _score(asked: Sequence[tuple[Question, bool]], replies: Replies) -> Score:
    rows, cases, valid = [], [], 0
    for question, absent in asked:
        reply = replies.get(question.id)
        said: yesno.YesNo | None = None
        if reply is not None and reply.answer is not None:
            said = "no" if reply.boxes else "yes"
            valid += 1
        rows.append(yesno.confusion(said, "yes" if absent else "no"))
        wanted = "not in the picture" if absent else "in the picture"
        words = {"yes": "not in the picture", "no": "a box", None: "nothing"}[said]
        cases.append(
            Case(
                *(question.id, question.picture, question.phrases[0]),
                float((said == "yes") == absent and said is not None),
                words,
                wanted,
                tuple(reply.boxes) if reply else (),
            )
        )
    counted = sum_by_picture([question.picture for question, _ in asked], rows)
    metrics = {
        'F1 of "not in the picture"': yesno.f1_of,
        "precision": yesno.precision_of,
        "recall": yesno.recall_of,
        "accuracy": yesno.accuracy_of,
        "said to be absent": yesno.yes_share_of,
    }
    figures = tuple(
        Figure(name, "strict", estimate(counted, statistic, len(rows))) for name, statistic in metrics.items()
    )
    notes = ("There is no published protocol: all figures are ours.",)
    return Score(figures, (valid, len(asked)), tuple(cases), (), notes)
