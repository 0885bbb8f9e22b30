"""What the vision side says of an answer's words, laid over what the language model would say.

Two heads know something better than a language model of Kit's size: the locator, whether a thing is in the picture;
the namer, what a region shows, and over all proposals what the picture shows. Neither writes words. Where an answer
turns on such knowledge, the probability that the language model gives to the words in question ("Yes" and "No"; all
nouns) is shared among them anew, and all other words keep theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from openferret import prompts
from openferret.generation.engines import AnyFerret
from openferret.generation.intents import Sought
from openferret.generation.locating import find_phrases, phrase_ids
from openferret.generation.presence import PRESENCE_THRESHOLD, presence_logit, seen_on
from openferret.model.pictures import EncodedPictures
from openferret.processing.preparing import Preparing


def redistribute(logits: Tensor, tokens: Tensor, weights: Tensor) -> None:
    """Shares the probability of some tokens among them anew, in place; that of all others stays.

    Args:
        logits: float [V].
        tokens: int64 [n], each once.
        weights: float [n], logits of the new shares.

    Example:
        >>> logits = torch.tensor([0.0, 2.0, 1.0])
        >>> before = logits.softmax(0)[0]
        >>> redistribute(logits, torch.tensor([1, 2]), torch.tensor([0.0, 3.0]))
        >>> bool(logits[2] > logits[1]), bool(torch.isclose(logits.softmax(0)[0], before))
        (True, True)
    """
    logits[tokens] = logits[tokens].logsumexp(0) + weights.to(logits.dtype).log_softmax(0)


def lay_presence_over(
    model: AnyFerret,
    processor: Preparing,
    encoded: EncodedPictures,
    sought: Sequence[Sought],
    logits: Tensor,
) -> None:
    """Lets locator and namer have their say in the first word of answers about what is there and where, in place.

    Args:
        model: with a locator.
        processor: the model's own.
        encoded: one picture.
        sought: what is asked for in each row, at least one.
        logits: float [rows, V], of the answers' first tokens.
    """
    config = model.config
    found = find_phrases(model, encoded, [phrase_ids(processor, one.phrase) for one in sought])
    yes, no, absent = (processor.tokenize(text)[0] for text in (prompts.YES, prompts.NO, prompts.ABSENT))
    for row, thing, where in zip(logits, sought, found, strict=True):
        pair = (yes, no) if thing.kind == "exists" else (config.phrase_token_id, absent)
        said, seen = float(row[pair[0]] - row[pair[1]]), seen_on(encoded, config.nouns, thing.phrase)
        logit = presence_logit(config, thing.kind, said, where.presence, seen)
        if thing.kind == "where":
            logit -= math.log(PRESENCE_THRESHOLD / (1 - PRESENCE_THRESHOLD))
        tokens = torch.tensor(pair, device=logits.device)
        redistribute(row, tokens, torch.tensor([logit, 0.0], device=logits.device))
