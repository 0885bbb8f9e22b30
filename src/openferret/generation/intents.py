"""What a question asks for, where the vision side knows the answer better than the language model does.

English, by a few patterns: whether something is in the picture, and where it is. Whatever matches none of them is the
language model's alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from openferret.phrases import with_determiner

_LONGEST = 200  # characters: longer questions ask for more than whether a thing is there
_PICTURE = r"(?:the|this)\s+(?:image|picture|photo|photograph|scene)"
_SHOWN = rf"(?:\s+(?:(?:visible|present|shown|seen|depicted)\s+)?(?:in|on)\s+{_PICTURE}|\s+(?:visible|present|here))?"
_END = rf"{_SHOWN}\s*[?.!]*"
_EXISTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:is|are)\s+there\s+(?:any\s+|some\s+)?(?P<phrase>.+?){_END}",
        rf"(?:do|can|could)\s+you\s+(?:see|find|spot)\s+(?:any\s+|some\s+)?(?P<phrase>.+?){_END}",
        rf"(?:does|do)\s+{_PICTURE}\s+(?:contain|show|have|include|depict)\s+(?:any\s+|some\s+)?(?P<phrase>.+?){_END}",
    )
)
_WHERE = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"where(?:'s|\s+is|\s+are)\s+(?P<phrase>.+?){_END}",
        rf"what\s+is\s+the\s+location\s+of\s+(?P<phrase>.+?){_END}",
    )
)
_DESCRIBE = re.compile(
    rf"(?:please\s+)?(?:(?:describe|caption)\s+{_PICTURE}|describe\s+what\s+you\s+see{_SHOWN}"
    rf"|(?:write|give)\s+(?:me\s+)?a\s+(?:short\s+)?(?:caption|description)\s+(?:of|for)\s+{_PICTURE}"
    rf"|what(?:'s|\s+is)\s+(?:(?:happening|going\s+on)\s+)?in\s+{_PICTURE}"
    rf"|what\s+(?:do|can)\s+you\s+see{_SHOWN}|what\s+does\s+{_PICTURE}\s+show)\s*[?.!]*",
    re.IGNORECASE,
)
_NAME = r"[a-z][a-z'-]*(?:\s+[a-z][a-z'-]*){0,2}"
_CHOICE = re.compile(
    # `openferret refer --ask` writes "Region [0]: " before a question that does not mention its region.
    rf"(?:region\s+\[\d+\]:\s+(?:is|what\s+is)\s+(?:it|this|that)"
    rf"|(?:is|what\s+is|which\s+is)\s+(?:(?:the\s+)?(?:object|thing|region|area)\s+(?:(?:at|in)\s+)?)?\[\d+\])"
    rf"(?:\s+(?:of|in|on)\s+{_PICTURE})?\s*[,:]?\s+an?\s+(?P<first>{_NAME})\s+or\s+an?\s+(?P<second>{_NAME})\s*\?*",
    re.IGNORECASE,
)
# A phrase of one thing; "a dog or a cat", "it", or words about a region are no such phrase.
_NOT_ONE_THING = re.compile(
    r"\[\d|[\[\]?]|\b(?:or|not|it|he|she|they|this|that|these|those|else)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Sought:
    """A thing that a question asks for.

    Attributes:
        phrase: what it is called, in lower case, with an article where it needs one.
        kind: whether it is there at all ("exists"), or where it is ("where").
    """

    phrase: str
    kind: Literal["exists", "where"]


def sought_thing(question: str) -> Sought | None:
    """The thing whose presence or place a question asks for; None for any other question.

    Example:
        >>> sought_thing("Is there a dog in the image?")
        Sought(phrase='a dog', kind='exists')
        >>> sought_thing("Where is the red cup?").kind
        'where'
        >>> sought_thing("What is [0]?") is None and sought_thing("Is there a dog or a cat?") is None
        True
    """
    text = " ".join(question.split())
    if len(text) > _LONGEST:
        return None
    for kind, patterns in (("exists", _EXISTS), ("where", _WHERE)):
        for pattern in patterns:
            match = pattern.fullmatch(text)
            if match and not _NOT_ONE_THING.search(match["phrase"]):
                return Sought(
                    with_determiner(match["phrase"].lower()), "exists" if kind == "exists" else "where"
                )
    return None


def offered_choice(question: str) -> tuple[str, str] | None:
    """The two things that a question about a region lets choose between, in lower case; None for any other question.

    Example:
        >>> offered_choice("Is the object [0] of the image a dog or a traffic light?")
        ('dog', 'traffic light')
        >>> offered_choice("Is [0] a dog?") is None and offered_choice("Is there a dog or a cat?") is None
        True
    """
    text = " ".join(question.split())
    match = _CHOICE.fullmatch(text) if len(text) <= _LONGEST else None
    return None if match is None else (match["first"].lower(), match["second"].lower())


def asks_description(question: str) -> bool:
    """Whether a question asks for a description of the whole picture.

    Example:
        >>> asks_description("Describe the picture."), asks_description("What's in this image?")
        (True, True)
        >>> asks_description("Describe the dog.")
        False
    """
    text = " ".join(question.split())
    return len(text) <= _LONGEST and _DESCRIBE.fullmatch(text) is not None
