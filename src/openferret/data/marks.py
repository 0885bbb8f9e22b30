r"""Marks in the text of a sample: `<region:k>`, `<box:k>` and `<phrase>`; everything else is words.

`<region:k>` in a question is where the person points at the sample's region k; `<box:k>` in an answer is that
region's box. Boxes directly follow their phrase, several of them each other: "<phrase>two dogs <box:0> <box:1>".
`<phrase>` says where the phrase begins; without it the phrase is the noun phrase before the box. A mark that is
meant as words has a backslash: `<\box:0>`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from openferret.phrases import last_noun_phrase

MarkKind: TypeAlias = Literal["region", "box"]

MARK = re.compile(r"<(region|box):([0-9]{1,6})>")
_ANY = r"(?:region:[0-9]+|box:[0-9]+|phrase)>"
_LIKE_A_MARK = re.compile(rf"<(\\*{_ANY})")
_ESCAPED = re.compile(rf"<\\(\\*{_ANY})")
_TOKEN = re.compile(r"<(?:(region|box):([0-9]{1,6})|phrase)>")
_PHRASE = "<phrase>"


@dataclass(frozen=True)
class Grounded:
    """A phrase of an answer and the regions whose boxes follow it.

    Args:
        phrase: its words.
        span: of these words in `plain_text` of the turn, characters.
        regions: indices into the sample's regions.
    """

    phrase: str
    span: tuple[int, int]
    regions: tuple[int, ...]


def escape_marks(text: str) -> str:
    r"""Words of others, so that nothing in them is read as a mark; `unescape_marks` is the way back.

    >>> escape_marks("a <box:0> < b")
    'a <\\box:0> < b'
    """
    return _LIKE_A_MARK.sub(r"<\\\1", text) if "<" in text else text


def unescape_marks(text: str) -> str:
    r"""The way back from `escape_marks`.

    >>> unescape_marks(escape_marks("a <box:0> b"))
    'a <box:0> b'
    """
    return _ESCAPED.sub(r"<\1", text) if "<" in text else text


def find_marks(text: str) -> list[tuple[MarkKind, int]]:
    """The marks of a text in order, each with its region's index; `<phrase>` is not among them.

    >>> find_marks("What is <region:0> beside <region:1>?")
    [('region', 0), ('region', 1)]
    """
    if "<" not in text:
        return []
    return [("region" if kind == "region" else "box", int(index)) for kind, index in MARK.findall(text)]


def replace_marks(text: str, write: Callable[[MarkKind, int], str], phrase: str = "") -> str:
    """A text with something in the place of each mark, and its other words unescaped.

    Args:
        text: of a turn.
        write: what stands for the mark of a kind with a region's index.
        phrase: what stands for `<phrase>`.

    >>> replace_marks("<phrase>a cat <box:0>", lambda kind, index: f"[{index}]")
    'a cat [0]'
    """
    pieces, end = [], 0
    for match in _TOKEN.finditer(text):
        kind, index = match.groups()
        pieces.append(unescape_marks(text[end : match.start()]))
        pieces.append(write("region" if kind == "region" else "box", int(index)) if kind else phrase)
        end = match.end()
    return "".join([*pieces, unescape_marks(text[end:])])


def plain_text(text: str) -> str:
    """The words alone: marks gone with the space before them.

    >>> plain_text("<phrase>two dogs <box:0> <box:1> run")
    'two dogs run'
    """
    return "".join(words for words, _ in _segments(text))


def grounded_phrases(text: str) -> Iterator[Grounded]:
    """The phrases of an answer that have boxes, in order.

    >>> answer = "I see <phrase>two dogs <box:0> <box:1> and a cat <box:2>."
    >>> [(one.phrase, one.regions) for one in grounded_phrases(answer)]
    [('two dogs', (0, 1)), ('a cat', (2,))]
    """
    plain, opened, since = "", None, 0
    waiting: list[int] = []
    span = (0, 0)
    for words, mark in [*_segments(text), ("", None)]:
        if waiting and (words or mark is None or mark[0] == "phrase"):
            yield Grounded(plain[span[0] : span[1]], span, tuple(waiting))
            waiting, opened, since = [], None, len(plain)
        plain += words
        if mark is None or mark[0] == "region":
            continue
        if mark[0] == "phrase":
            opened = len(plain)
            continue
        if not waiting:
            if opened is not None:
                span = (opened, len(plain))
            else:
                start, end = last_noun_phrase(plain[since:])
                span = (since + start, since + end)
        waiting.append(mark[1])


def _segments(text: str) -> Iterator[tuple[str, tuple[str, int] | None]]:
    """Words, unescaped, and the mark that follows them; a mark takes the space before it with it."""
    end = 0
    for match in _TOKEN.finditer(text):
        words = unescape_marks(text[end : match.start()])
        kind, index = match.groups()
        yield (words.rstrip(" ") if kind else words), (kind, int(index)) if kind else ("phrase", 0)
        end = match.end()
    yield unescape_marks(text[end:]), None
