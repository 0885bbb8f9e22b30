"""The strict question of phrase grounding, one phrase a question, shared by the tasks that ask it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openferret.eval.questions import Question
from openferret.eval.tasks.entities import Picture, Target

RANKS = 10  # boxes of a phrase that recall at 10 can use
PROMPTS = {"strict": "ground: one phrase, lower case; merged; a box in any case"}


@dataclass(frozen=True)
class Asked:
    """A question and every occurrence that its answer is an answer to."""

    question: Question
    targets: tuple[Target, ...]


def strict_questions(picture: Picture) -> Iterator[Asked]:
    """Each phrase with boxes; the same words are asked once and count as often as they were said."""
    said: dict[str, list[Target]] = {}
    for sentence in picture.sentences:
        for target in sentence.targets:
            said.setdefault(target.words.lower(), []).append(target)
    for words in sorted(said):
        name = f"{picture.name} {words}"
        question = Question(
            name, picture.name, "ground", phrases=(words,), merge=True, forced=True, ranks=RANKS
        )
        yield Asked(question, tuple(said[words]))


def ask_all(pictures: Sequence[Picture]) -> list[Asked]:
    """The strict questions of every picture."""
    return [asked for picture in pictures for asked in strict_questions(picture)]
