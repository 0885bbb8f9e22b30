"""Where is a phrase, and is it there at all? One step of the language model and the locator, no decoding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from openferret import prompts
from openferret.coordinates import UnitBox
from openferret.generation.engines import AnyFerret
from openferret.generation.locating import find_phrases, phrase_ids
from openferret.generation.prefix import Continuation, PicturePrefix
from openferret.generation.presence import presence_logit, seen_on
from openferret.generation.questions import Question
from openferret.model.locator import PhraseEncoder
from openferret.processing.preparing import Preparing


@dataclass(frozen=True)
class Grounding:
    """Where a phrase would be, and how sure it is that it is there.

    Attributes:
        boxes: (x1, y1, x2, y2) in 0..1, best first; at least one.
        scores: probability of each that it is right (IoU >= 0.5).
        presence: probability that the phrase is in the picture, from what the language model's first word says
            ("<phrase>" rather than "Not"), the locator and the namer, calibrated.
    """

    boxes: tuple[UnitBox, ...]
    scores: tuple[float, ...]
    presence: float


def ground_phrases(
    model: AnyFerret,
    processor: Preparing,
    prefix: PicturePrefix,
    phrases: Sequence[str],
    questions: Sequence[Question],
    merged: bool,
) -> list[Grounding]:
    """Finds phrases on a picture, all in one batch.

    Args:
        model: with a locator.
        processor: the model's own.
        prefix: of the picture.
        phrases: at least one.
        questions: the grounding question of each.
        merged: one box around all instances of a phrase rather than one for each.
    """
    rows = Continuation(model, processor, prefix, len(questions))
    logits = rows.append([question.ids for question in questions])
    there, absent = model.config.phrase_token_id, processor.tokenize(prompts.ABSENT)[0]
    said: list[float] = (logits[:, there] - logits[:, absent]).tolist()
    ids = [phrase_ids(processor, phrase) for phrase in phrases]
    every = find_phrases(model, prefix.encoded, ids, merged=merged)
    groundings = []
    for phrase, words, found in zip(phrases, said, every, strict=True):
        seen = seen_on(prefix.encoded, model.config.nouns, phrase)
        logit = presence_logit(model.config, "where", words, found.presence, seen)
        groundings.append(Grounding(found.boxes, found.scores, 1 / (1 + math.exp(-logit))))
    return groundings


def is_cut(processor: Preparing, phrase: str) -> bool:
    """Whether a phrase is longer than what the locator reads of it."""
    return len(phrase_ids(processor, phrase)) > PhraseEncoder.max_length
