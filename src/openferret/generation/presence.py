"""Is a phrase in the picture at all? What the language model, the locator and the namer know of it, as one logit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from openferret.model.pictures import EncodedPictures
from openferret.nouns import head_noun

PRESENCE_THRESHOLD = 0.35
"""Whoever asks where a thing is mostly knows that it is there: on dev 93 % of the phrases that are there are found at
0.35 and 90 % at 0.5, and 75 % and 85 % of those that are not are said to be absent."""
_NEVER_CERTAIN = 1e-4  # probabilities are kept so far from 0 and 1 before their logit is taken

Asked = Literal["where", "exists"]


def presence_logit(
    config: Any, asked: Asked, said: float, located: float, seen: float | None = None
) -> float:
    """The logit that a phrase is in the picture, from all who know something of it.

    Args:
        config: of the model, with the weights that were fitted on pictures kept back.
        asked: where it is, or whether there is one.
        said: the language model's logit, of the word for "there" against that for "not there".
        located: the locator's probability.
        seen: the namer's probability that such a thing is on the picture; None if it does not know the noun.

    Example:
        >>> from openferret.model.configuration import FerretConfig
        >>> presence_logit(FerretConfig(), "where", said=2.0, located=0.5)
        1.0
    """
    logits = [said, log_odds(located)]
    if seen is None:
        fitted = config.presence_calibration if asked == "where" else config.exists_calibration
    else:
        logits.append(log_odds(seen))
        fitted = config.seen_presence_calibration if asked == "where" else config.seen_exists_calibration
    *weights, constant = fitted
    return float(sum(weight * one for weight, one in zip(weights, logits, strict=True)) + constant)


def seen_on(encoded: EncodedPictures, nouns: Sequence[str], phrase: str) -> float | None:
    """The namer's probability that what a phrase names is on a picture; None if it does not know the noun.

    Args:
        encoded: one picture.
        nouns: what the namer's outputs stand for, "" where nothing.
        phrase: such as "a red cup".
    """
    head = head_noun(phrase)
    if encoded.nouns is None or not head or head not in nouns:
        return None
    return float(encoded.nouns[0, nouns.index(head)])


def log_odds(probability: float) -> float:
    """Log odds of a probability, kept finite.

    Example:
        >>> log_odds(0.5), round(log_odds(1.0), 2)
        (0.0, 9.21)
    """
    kept = min(max(probability, _NEVER_CERTAIN), 1 - _NEVER_CERTAIN)
    return math.log(kept / (1 - kept))
