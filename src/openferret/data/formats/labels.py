"""A conversation -> tokens, and which of them are learned: every answer with the token that closes it."""

from __future__ import annotations

from collections.abc import Sequence

from openferret.processing.processor import FerretProcessor
from openferret.prompts import IMAGE_TOKEN

IGNORED = -100


def label_conversation(
    processor: FerretProcessor, turns: Sequence[tuple[str, str]], picture: bool = True
) -> tuple[list[int], list[int]]:
    """Tokens and labels of a whole conversation.

    Args:
        processor: of the paper's kind (`ferret_v1`).
        turns: questions and answers; placeholders in them are read as such, so escape a user's words.
        picture: whether the conversation is about a picture, which stands before the first question.

    Returns:
        Tokens, with one `<image>` where the picture stands, and as many labels: -100 for everything but the
        answers and the tokens that close them.

    Example:
        >>> ids, labels = label_conversation(processor, [("What is this?", "A cat.")])  # doctest: +SKIP
    """
    words = processor.conversation
    ids: list[int] = []
    labels: list[int] = []
    for number, (question, answer) in enumerate(turns):
        before = words.following if number else words.opening + words.first
        if not number and not picture:
            before = words.opening.replace(IMAGE_TOKEN, "")
        asked = f"{before}{question}{words.answer} "
        turn = processor.tokenize(f"{asked}{answer}{words.closing}")
        # The space that ends the question belongs to the answer's first word, or is its first token.
        silent = len(processor.tokenize(asked)) - 1
        ids += turn
        labels += [IGNORED] * silent + turn[silent:]
    return ids, labels
