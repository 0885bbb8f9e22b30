"""Analogous things from a language model, in the place of the table (arXiv 2310.07704, section 4.3).

What it names is checked against the picture as the table's are (`openferret.data.negatives.mining`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from openferret.data.endpoints.calling import Caller
from openferret.data.endpoints.completions import CompletionError, Messages, estimate_tokens
from openferret.data.negatives.mining import Analogies
from openferret.phrases import without_determiner

TOLD = (
    "You are given a phrase that names something on an image. Write six phrases for similar things that are not the "
    "same: each changes one thing of the phrase, either what it is (man: woman), an attribute (blue: yellow) or a "
    "number (two: three), so that nobody could use the new phrase for what the old one names. No synonyms, no broader "
    "or narrower words. One phrase a line, without articles, and nothing else."
)
_SHOWN = (
    ("a blue shirt", "yellow shirt\nred shirt\nblue dress\nwhite shirt\nblue hat\ngreen shirt"),
    ("two dogs", "two cats\nthree dogs\ntwo horses\nfour dogs\ntwo sheep\nfive dogs"),
)
_BULLET = re.compile(r"^[\s\d.)*-]+")
MOST_TOKENS = 120
_MOST = 6
_LONGEST = 60


@dataclass(frozen=True, eq=False)
class EndpointAnalogies:
    """From a model behind an OpenAI-compatible server.

    Args:
        caller: asks it; with a cache, each phrase is asked once and the same phrase always has the same answer.
        otherwise: answers where the model does not.
    """

    caller: Caller
    otherwise: Analogies

    def of(self, phrase: str) -> Sequence[str]:
        """At most six phrases; BudgetSpent, if the caller's budget is."""
        bare = without_determiner(phrase) if phrase.split(" ", 1)[0].lower() in {"a", "an", "the"} else phrase
        try:
            return ask_for_analogies(self.caller, bare) or self.otherwise.of(phrase)
        except CompletionError:
            return self.otherwise.of(phrase)


def ask_for_analogies(caller: Caller, phrase: str) -> list[str]:
    """What a model names; [] for a reply without any.

    Raises:
        CompletionError: no reply.
        BudgetSpent: the caller's budget is spent.
    """
    return read_analogies(caller.ask(_messages(phrase), temperature=0, max_tokens=MOST_TOKENS).text)


def read_analogies(text: str) -> list[str]:
    r"""The phrases of a reply: lines of up to 60 plain characters, without bullets and articles.

    >>> read_analogies("1. a yellow shirt\n- red shirt\nI hope that this helps: [x]")
    ['yellow shirt', 'red shirt']
    """
    found: dict[str, None] = {}
    for line in text[:4000].splitlines():
        words = re.sub(r"^(?:an?|the)\s+", "", _BULLET.sub("", line).strip().strip(".").lower())
        if words and len(words) <= _LONGEST and re.fullmatch(r"[a-z0-9' -]+", words):
            found[words] = None
    return list(found)[:_MOST]


def estimated_tokens(phrase: str) -> int:
    """Of a request, at four characters a token."""
    return sum(estimate_tokens(message["content"]) for message in _messages(phrase))


def _messages(phrase: str) -> Messages:
    messages = [{"role": "system", "content": TOLD}]
    for asked, said in _SHOWN:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return [*messages, {"role": "user", "content": phrase}]
