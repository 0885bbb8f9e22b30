"""Questions for classes that are not there, as often as for those that are.

Where all of COCO's classes are annotated, what has no annotation is absent. Drawn at random, the common classes would
mostly be there and the rare ones mostly absent, and a language model learns that from the word alone: "person" is yes.
So absent classes are drawn with weights by which each class is asked for as often in vain as not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openferret.nouns import head_noun
from openferret.train.stages.pictures import Record

_ROUNDS = 60  # of fitting
_MOST = 0.5  # of all weight: a class that is on most pictures cannot be balanced, and shall not displace all others


def exhaustive(record: Record) -> bool:
    """Whether everything of a fixed set of classes is annotated: COCO's pictures, which have no captions."""
    return bool(record.named) and not record.captions


def class_names(record: Record) -> list[str]:
    """Its classes, each with an article ("a cup"), in the order of its annotations."""
    return list(dict.fromkeys(one.text for one in record.named if len(one.boxes) == 1))


@dataclass(frozen=True)
class Classes:
    """Class names with their articles, and how often each is asked for where it is absent.

    Attributes:
        names: "a cup", ...
        heads: their head nouns; what is on a picture under the same noun is not called absent.
        weights: float64 [C], positive.
    """

    names: tuple[str, ...]
    heads: tuple[str, ...]
    weights: NDArray[np.float64]

    def absent(self, record: Record, generator: np.random.Generator) -> str | None:
        """A class that is not on the picture; None if all are."""
        weights = self.weights * [head not in record.heads for head in self.heads]
        total = weights.sum()
        if not total > 0:
            return None
        return self.names[int(generator.choice(len(self.names), p=weights / total))]


def balanced_classes(records: Sequence[Record]) -> Classes | None:
    """The classes of all pictures that are annotated exhaustively, balanced; None if there are no such pictures.

    Args:
        records: any; a picture that is in it several times counts once.
    """
    counted = list({record.row: record for record in records if exhaustive(record)}.values())
    names = sorted({name for record in counted for name in class_names(record)})
    if not names:
        return None
    heads = [head_noun(name) for name in names]
    place = {name: number for number, name in enumerate(names)}
    asked = np.zeros(len(names))
    free = np.array([[head not in record.heads for head in heads] for record in counted], np.float64)
    for record in counted:
        there = class_names(record)
        for name in there:
            asked[place[name]] += 1 / len(there)
    weights = asked / asked.sum()
    for _ in range(_ROUNDS):
        shares = free * weights
        in_vain = (shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)).sum(axis=0)
        # A class that is on every picture is never absent, whatever its weight.
        weights = np.where(in_vain > 0, weights * asked / np.maximum(in_vain, 1e-12), weights)
        weights /= weights.sum()
        common = weights > _MOST
        if common.any() and not common.all():
            weights = np.where(common, _MOST, weights * ((1 - _MOST) / weights[~common].sum()))
    return Classes(tuple(names), tuple(heads), weights)
