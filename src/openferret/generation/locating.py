"""Phrases -> boxes, through the model's locator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from openferret.model.locator import distinct_instances
from openferret.model.modeling import FerretForConditionalGeneration
from openferret.model.pictures import EncodedPictures

UnitBox: TypeAlias = tuple[float, float, float, float]

INSTANCE_THRESHOLD = 0.3


@dataclass(frozen=True)
class FoundPhrase:
    """Where a phrase is.

    Attributes:
        boxes: (x1, y1, x2, y2) in 0..1, best first; at least one.
        scores: probability of each: that it is an instance, or for a hull that the phrase is there at all.
        presence: probability that the phrase is in the picture.
    """

    boxes: tuple[UnitBox, ...]
    scores: tuple[float, ...]
    presence: float


@torch.no_grad()
def find_phrases(
    model: FerretForConditionalGeneration,
    encoded: EncodedPictures,
    phrases: Sequence[Sequence[int]],
    *,
    merged: bool = False,
    threshold: float = INSTANCE_THRESHOLD,
) -> list[FoundPhrase]:
    """Finds phrases on one picture.

    Args:
        model: with a locator.
        encoded: one picture.
        phrases: token ids of each, at least one.
        merged: one box around all instances of a phrase rather than one for each.
        threshold: least probability of an instance; the best is given in any case.
    """
    length = max(len(phrase) for phrase in phrases)
    device = encoded.tokens.device
    ids = torch.tensor([[*phrase, *[0] * (length - len(phrase))] for phrase in phrases], device=device)
    mask = torch.tensor([[i < len(phrase) for i in range(length)] for phrase in phrases], device=device)
    picture = torch.zeros(len(phrases), dtype=torch.long, device=device)
    located = model.model.locate(
        encoded, ids, mask, picture, torch.full_like(picture, merged, dtype=torch.bool)
    )
    presence: list[float] = located.presence.sigmoid().tolist()
    found = []
    for index, present in enumerate(presence):
        if merged:
            boxes, scores = located.box[index][None].tolist(), [present]
        else:
            kept, certainty = distinct_instances(located, index, threshold)
            boxes, scores = kept.tolist(), certainty.tolist()
        found.append(FoundPhrase(tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in boxes), tuple(scores), present))
    return found
