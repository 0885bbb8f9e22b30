"""What can be asked of a picture, in two kinds: what is written with others, and what is done whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from openferret import prompts
from openferret.answer import Answer, LocatedBox, Mention, parse_answer
from openferret.errors import InputError
from openferret.generation.decode import Decoding, Generated
from openferret.generation.drafts import write_drafts
from openferret.generation.prefix import context_length
from openferret.generation.questions import Question, write_question
from openferret.regions import Region, region_bounds
from openferret.scene import Scene
from openferret.serve.limits import LIMITS
from openferret.serve.rows import Row, write_rows


@dataclass(frozen=True)
class Outcome:
    """What came of a request.

    Attributes:
        answers: one, or one for each region.
        seconds: "queue", "encode", "prefill" and "decode".
        prompt_tokens: read, the picture's own included.
        new_tokens: written.
        complete: no answer was cut off.
    """

    answers: tuple[Answer, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    prompt_tokens: int = 0
    new_tokens: int = 0
    complete: bool = True


@dataclass(frozen=True)
class Written:
    """Questions whose answers are written token by token, beside those of other requests.

    Attributes:
        rows: how many questions.
        ask: writes them.
        read: makes an answer of what was asked and written.
        max_new_tokens: of each answer.
        temperature: 0 takes the most probable token.
        seed: of the draws.
    """

    rows: int
    ask: Callable[[Scene], list[Question]]
    read: Callable[[Scene, int, Question, Generated], Answer]
    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Whole:
    """What a scene does in one go.

    Attributes:
        run: does it; it is also given what tells whether nobody waits for it any more.
        rows: answers that are written meanwhile.
    """

    run: Callable[[Scene, Callable[[], bool]], tuple[Answer, ...]]
    rows: int = 1


_MENTION = re.compile(r"\[\d+\]")

Work: TypeAlias = Written | Whole


def reading() -> Whole:
    """Only reads the picture, so that later questions find it read."""
    return Whole(lambda scene, gone: ())


def refer(regions: Sequence[Region], question: str | None, max_new_tokens: int) -> Written:
    """As `Scene.refer_many`."""
    text = prompts.REFER.format(region="[0]") if question is None else about_region(question)

    def read(scene: Scene, row: int, asked: Question, written: Generated) -> Answer:
        answer = read_answer(scene, row, asked, written)
        if question is not None or not answer.text or answer.mentions:
            return answer
        bounds = region_bounds(regions[row], scene.width, scene.height)
        box = LocatedBox.of(bounds, scene.width, scene.height, written.confidence)
        return replace(answer, mentions=(Mention(answer.text, (0, len(answer.text)), (box,)),))

    return Written(
        len(regions),
        lambda scene: [write_first(scene, text, [region]) for region in regions],
        read,
        max_new_tokens,
    )


def ask(question: str, regions: Sequence[Region], max_new_tokens: int) -> Written:
    """As `Scene.ask`."""
    return Written(1, lambda scene: [write_first(scene, question, regions)], read_answer, max_new_tokens)


def describe(max_new_tokens: int, drafts: int = 1) -> Work:
    """As `Scene.describe`; several drafts are written beside each other, and not beside other requests."""
    if drafts == 1:
        return ask(prompts.DESCRIBE, (), max_new_tokens)

    def run(scene: Scene, gone: Callable[[], bool]) -> tuple[Answer, ...]:
        def write(questions: Sequence[Question], how: Decoding) -> list[Generated]:
            rows = [Row(one, how.max_new_tokens, gone) for one in questions]
            return write_rows(scene, rows, how.temperature, how.seed)

        asked = write_first(scene, prompts.DESCRIBE, ())
        written = write_drafts(write, asked, Decoding(max_new_tokens=max_new_tokens), drafts)
        return (scene.best_draft(written, asked.warnings),)

    return Whole(run, drafts)


def ground(phrases: Sequence[str], merge: bool, threshold: float | None) -> Whole:
    """As `Scene.ground`."""
    return Whole(lambda scene, gone: (scene.ground(phrases, merge, threshold),))


def detect(threshold: float | None) -> Whole:
    """As `Scene.detect`."""
    return Whole(lambda scene, gone: (scene.detect(threshold),))


def about_region(question: str) -> str:
    """A question that mentions region [0].

    >>> about_region("What colour?")
    'Region [0]: What colour?'
    """
    return question if "[0]" in question or not question.strip() else f"Region [0]: {question}"


def check_mentions(text: str) -> None:
    """InputError for a question that mentions regions, whichever, more often than a request may have any.

    Each mention is read anew, so that a few kilobytes of `[0]` would hold the model for a minute.
    """
    if sum(1 for _ in _MENTION.finditer(text)) > LIMITS.regions:
        raise InputError(f"the question mentions regions more than {LIMITS.regions} times; ask less at once")


def write_first(scene: Scene, text: str, regions: Sequence[Region]) -> Question:
    """The first question of a conversation; InputError if it cannot be used."""
    check_mentions(text)
    room = context_length(scene.loaded.model) - scene.prefix.length - 1
    return write_question(scene.loaded.processor, text, regions, scene.image.size, room=room)


def read_answer(scene: Scene, row: int, asked: Question, written: Generated) -> Answer:
    """The answer to a question, whichever row it was."""
    return parse_answer(
        written.text,
        scene.width,
        scene.height,
        scores=written.box_scores,
        model=scene.loaded.name,
        timings={"encode": scene.seconds, **written.seconds},
        warnings=asked.warnings,
    )
