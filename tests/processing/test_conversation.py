from __future__ import annotations

import json
from pathlib import Path

import pytest

from openferret.processing.conversation import CONVERSATIONS

PARITY = Path(__file__).parents[3] / "shared" / "reference" / "parity" / "data" / "prompts.json"


def whole(conversation, turns):
    """A conversation of several turns, as the cached prefix and the later turns join up."""
    text, before = conversation.opening, conversation.first
    for question, answer in zip(turns[::2], turns[1::2], strict=True):
        text += before + question + conversation.answer
        if answer is not None:
            text += (
                f"{' ' if conversation is CONVERSATIONS['ferret_v1'] else ''}{answer}{conversation.closing}"
            )
        before = conversation.following
    return text


def test_chatml_as_the_language_model_knows_it():
    assert whole(CONVERSATIONS["chatml"], ["Where is a dog?", "Here.", "And now?", None]) == (
        "<|im_start|>user\n<image>\nWhere is a dog?<|im_end|>\n<|im_start|>assistant\nHere.<|im_end|>"
        "\n<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_ferret_v1_as_the_reference_writes_it():
    if not PARITY.is_file():
        pytest.skip("the reference's recorded outputs (../shared/reference/parity) are not here")
    recorded = json.loads(PARITY.read_text(encoding="utf-8"))["prompts"]
    for one in recorded:
        turns = [turn if turn is None else turn.removeprefix("<image>\n") for turn in one["turns"]]
        assert whole(CONVERSATIONS["ferret_v1"], turns) == "<s>" + one["prompt"]
