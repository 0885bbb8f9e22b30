"""Which of two is a region? The namer's opinion beside the language model's, where the two answers part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openferret.generation.evidence import redistribute
from openferret.nouns import head_noun
from openferret.phrases import with_determiner
from openferret.processing.preparing import Preparing

SAID_WEIGHT = 0.1
"""Of the language model's log odds of the two (a logistic fit, docs/training.md)."""
NAMED_WEIGHT = 0.45
"""Of the namer's."""
_LEAST = 1e-5


@dataclass(frozen=True)
class Choosing:
    """Two answers, and how much likelier the first is by what the region looks like.

    Attributes:
        first: its tokens.
        second: its tokens.
        log_odds: the namer's, of the first.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    log_odds: float

    def lay_over(self, written: Sequence[int], logits: Tensor) -> None:
        """Where the next token is the first in which the two differ, shares its probability anew, in place.

        Args:
            written: tokens of the answer so far.
            logits: float [V], of the next token.
        """
        place = len(written)
        if place >= min(len(self.first), len(self.second)):
            return
        if not tuple(written) == self.first[:place] == self.second[:place]:
            return
        pair = (self.first[place], self.second[place])
        if pair[0] != pair[1]:
            said = float(logits[pair[0]] - logits[pair[1]])
            if not math.isfinite(said):
                return  # an answer that has to end here is neither
            logit = SAID_WEIGHT * said + NAMED_WEIGHT * self.log_odds
            redistribute(
                logits,
                torch.tensor(pair, device=logits.device),
                torch.tensor([logit, 0.0], device=logits.device),
            )


def choosing(
    processor: Preparing, names: Sequence[str], nouns: Tensor, choice: tuple[str, str]
) -> Choosing | None:
    """What the namer thinks of a choice; None if it does not know both nouns, or they are one.

    Args:
        processor: of the model.
        names: what the namer's outputs stand for.
        nouns: float [N], its probabilities of a region.
        choice: such as ("dog", "cat"), without articles.
    """
    heads = [head_noun(one) for one in choice]
    if heads[0] == heads[1] or any(not head or head not in names for head in heads):
        return None
    first, second = (max(float(nouns[names.index(head)]), _LEAST) for head in heads)
    answers = [tuple(processor.tokenize(with_determiner(one))) for one in choice]
    return Choosing(answers[0], answers[1], math.log(first / second))
