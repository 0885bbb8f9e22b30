"""Several drafts of a description, and which of them to give.

The likeliest word after the other makes a caption that nothing is wrong with and little is right about. Of some drawn
by chance beside it, the one whose words are likely and whose things the namer sees on the picture tells more of what is
there: on val, eight beside the first raise F1 of named and boxed things from 0.231 to 0.255 (docs/evaluation.md), for
several times the words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from openferret.checks import whole_number
from openferret.errors import InputError
from openferret.generation.decode import Decoding, Generated
from openferret.generation.questions import Question

Writer: TypeAlias = Callable[[Sequence[Question], Decoding], list[Generated]]
"""Answers questions on one picture together."""
MOST_DRAFTS = 32
TEMPERATURE = 0.7
"""Of the drafts beside the first, which takes the likeliest words."""
_TRUTH, _PLENTY = 0.25, 0.3  # weights beside the words' mean log-probability, chosen on dev
_UNKNOWN = 0.5  # of a description that names nothing the namer knows
_LEAST = 1e-3


def write_drafts(write: Writer, question: Question, how: Decoding, drafts: int) -> list[Generated]:
    """Answers one question several times: first with the likeliest words, then with words drawn by chance.

    Args:
        write: answers questions on one picture together, such as `decode` with its first arguments given.
        question: asks for a description.
        how: of the first; the others have the same seed and length.
        drafts: how many, 1 to `MOST_DRAFTS`.

    Raises:
        InputError: drafts is out of range.
    """
    if whole_number(drafts, "drafts", at_least=1) > MOST_DRAFTS:
        raise InputError(f"drafts must be at most {MOST_DRAFTS}, not {drafts}")
    written = write([question], how)
    if drafts > 1:
        written = [*written, *write([question] * (drafts - 1), replace(how, temperature=TEMPERATURE))]
    return written


def worth(written: Generated, seen: Sequence[float]) -> tuple[bool, float]:
    """What is preferred among drafts: the greater.

    Args:
        written: a draft.
        seen: for each thing that it names and the namer knows, the probability that it is on the picture.

    Returns:
        Whether it came to its end, then how likely its words are and how much of what it names is there.

    Example:
        >>> said = Generated("a dog", (1,), (), (0.5,), True, {})
        >>> worth(said, [0.9]) > worth(said, [0.2]) > worth(replace(said, complete=False), [0.9])
        True
    """
    things = seen or [_UNKNOWN]
    truth = sum(math.log(max(one, _LEAST)) for one in things) / len(things)
    likely = math.log(max(written.confidence, _LEAST))
    return written.complete, likely + _TRUTH * truth + _PLENTY * sum(things)
