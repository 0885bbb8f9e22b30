"""Answers while they are written: clean text piece by piece, as Server-Sent Events."""

from __future__ import annotations

import json
import re
from typing import Any

from openferret.answer import parse_answer

# What may yet become part of a box, a special token, or the joint between two boxes, at the end of a text.
_UNDECIDED = re.compile(r"(?:[\s,;&\ufffd]|\b(?:a|an|and)\b|<[/|]?\w{0,40}+\|?>?|\[[-0-9,;\s]*+\]?)*+\Z")
_LONGEST_UNDECIDED = 400  # characters: beyond, an open bracket is no box


class CleanText:
    """Turns what a model has written so far into pieces of clean text that are never taken back.

    Example:
        >>> text = CleanText()
        >>> text.grow("<phrase>a do"), text.grow("<phrase>a dog<box><loc_1>"), text.finish("a dog runs")
        ('a do', 'g', ' runs')
    """

    def __init__(self) -> None:
        self.shown = ""

    def grow(self, raw: str) -> str:
        """The next piece, which may be empty.

        Args:
            raw: all that was written so far, special tokens included.
        """
        start = max(0, len(raw) - _LONGEST_UNDECIDED)
        undecided = _UNDECIDED.search(raw, start)
        return self.finish(parse_answer(raw[: undecided.start()] if undecided else raw, 1, 1).text)

    def finish(self, clean: str) -> str:
        """The last piece.

        Args:
            clean: the text of the answer.
        """
        if not clean.startswith(self.shown):
            return ""
        piece = clean[len(self.shown) :]
        self.shown = clean
        return piece


def event(data: dict[str, Any] | str, name: str | None = None) -> bytes:
    r"""One Server-Sent Event.

    >>> event({"text": "a"}, "token")
    b'event: token\ndata: {"text": "a"}\n\n'
    """
    # JSON escapes line breaks, so the data is one line whatever a model wrote.
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, allow_nan=False)
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {text}\n\n".encode("utf-8", "replace")
