"""A question as a person writes it, with [0] and [1] for regions -> what follows a picture's prefix."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from openferret.checks import check_kind, listed
from openferret.errors import InputError
from openferret.generation.intents import Sought, asks_description, offered_choice, sought_thing
from openferret.processing.preparing import Preparing, escape_text
from openferret.prompts import REFER, REGION_TOKEN
from openferret.regions import Region, doubt_pixels, fit_region

LONGEST_QUESTION = 1024  # tokens: far beyond what a question needs, and read in a second or so
_LONGEST_TOKEN = 64  # characters; text beyond LONGEST_QUESTION of them is not even tokenised
_REFERENCE = re.compile(r"\[(\d+)\]")


@dataclass(frozen=True)
class Question:
    """A question, ready to follow a prefix or an earlier turn.

    Attributes:
        ids: its tokens, up to where the answer begins.
        regions: in the order of their placeholders, in pixels of the picture.
        warnings: sentences about what was changed or left out.
        sought: the thing whose presence or place is asked for.
        naming: asks what its one region is, and nothing else.
        describing: asks for a description of the whole picture.
        choice: two things, one of which its one region is.
    """

    ids: tuple[int, ...]
    regions: tuple[Region, ...] = ()
    warnings: tuple[str, ...] = ()
    sought: Sought | None = None
    naming: bool = False
    describing: bool = False
    choice: tuple[str, str] | None = None


def write_question(
    processor: Preparing,
    text: str,
    regions: Sequence[Region],
    size: tuple[int, int],
    *,
    before: str | None = None,
    room: int = LONGEST_QUESTION,
) -> Question:
    """Writes a question in a model's words.

    Args:
        processor: the model's own.
        text: of the question; `[k]` stands for `regions[k]`, anything else is taken literally.
        regions: in pixels of the picture.
        size: width and height of the picture in pixels.
        before: fixed words before the question; None for those of a first question.
        room: tokens that there is room for.

    Raises:
        InputError: an empty question, `[k]` without such a region, a region that cannot be used, or no room.
    """
    check_kind(text, "a question", str)
    text = text.strip()
    if not text:
        raise InputError("the question is empty; ask something, such as 'What is [0]?'")
    warnings = []
    fitted = []
    for region in listed(regions, "regions", "[Box(10, 20, 200, 220)]"):
        on_picture, notes = fit_region(region, *size)
        fitted.append(on_picture)
        warnings += [*doubt_pixels(region, *size), *notes]
    most = min(room, LONGEST_QUESTION)
    mentioned: list[Region] = []

    def words(match: re.Match[str]) -> str:
        number = match[1].lstrip("0") or "0"
        if len(number) > 6 or int(number) >= len(fitted):
            there = f"only {len(fitted)}" if fitted else "none"
            raise InputError(f"the question mentions region [{number[:6]}], but there are {there}")
        mentioned.append(fitted[int(number)])
        return processor.region_words(mentioned[-1], *size)

    body = _REFERENCE.sub(words, escape_text(text[: most * _LONGEST_TOKEN]))
    first = processor.conversation.first if before is None else before
    ids = processor.tokenize(first + body + processor.conversation.answer)
    if len(ids) > most:
        closing = processor.tokenize(processor.conversation.answer)
        left = most - len(closing)
        if left < 1:
            raise InputError("there is no room for a question: the language model's context is full")
        ids = processor.tokenize(first + body)[:left] + closing
        warnings.append(f"the question is too long; only its first {left} tokens were read")
    elif len(text) > most * _LONGEST_TOKEN:
        warnings.append("the question is too long; its end was not read")
    shown = ids.count(processor.tokenizer.convert_tokens_to_ids(REGION_TOKEN))
    warnings += [
        f"the question does not mention region [{number}]"
        for number, region in enumerate(fitted)
        if not any(region is one for one in mentioned)
    ]
    naming = len(mentioned) == shown == 1 and _REFERENCE.sub("{region}", text) == REFER
    describing = not shown and asks_description(text)
    choice = offered_choice(text) if len(mentioned) == shown == 1 else None
    return Question(
        tuple(ids), tuple(mentioned[:shown]), tuple(warnings), sought_thing(text), naming, describing, choice
    )
