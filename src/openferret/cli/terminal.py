"""Text that came from a file or a model, made safe to show in a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with control characters replaced one by one: a model's words must not steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
