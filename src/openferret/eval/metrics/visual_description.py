"""F1_all and F1_loc: are the things that a caption names there, and where? (arXiv 1812.06587).

For every class: of what was named (precision) and of what the references name (recall), the share whose box
overlaps the reference's by more than half. `all` counts a wrong word as wrong; `loc` looks only at the words
that were right. Precision and recall are averaged over the classes of the references, then F1 is taken.

Each of a picture's captions is a reference of its own, as in the published code. A word that the reference
has without a box is not punished. Classes here are head nouns with plurals folded; the published ones are 480
lemmas of a vocabulary file that is not part of Flickr30k Entities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from openferret.eval.metrics.bootstrap import FloatArray, divide
from openferret.eval.metrics.boxes import BoxNumbers, best_overlap

FIELDS = 6  # per class: precision all (right, n), precision loc n, recall all (right, n), recall loc n


@dataclass(frozen=True)
class Reference:
    """One caption: the boxes of each class it names with boxes (first mention), and its other words."""

    objects: Mapping[str, Sequence[BoxNumbers]]
    other_words: frozenset[str] = frozenset()


def class_counts(
    named: Mapping[str, BoxNumbers | None], references: Sequence[Reference], classes: Mapping[str, int]
) -> FloatArray:
    """What one picture adds: `[len(classes) * FIELDS]`.

    Args:
        named: class -> its box in the caption (first mention), None if it was named without a box.
        references: of the picture; one without objects adds nothing.
        classes: place of every class; a named class that is not among them is left out of precision, as the
            average is taken over these.

    >>> counts = class_counts({"dog": (0, 0, 1, 1)}, [Reference({"dog": [(0, 0, 1, 1)]})], {"dog": 0})
    >>> counts.tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    counts = np.zeros((len(classes), FIELDS))
    for reference in references:
        for name, box in named.items():
            targets = reference.objects.get(name)
            if name not in classes or (targets is None and name in reference.other_words):
                continue
            right = targets is not None and box is not None and best_overlap([box], targets) > 0.5
            counts[classes[name], :3] += right, 1, targets is not None
        for name, targets in reference.objects.items():
            box = named.get(name)
            right = box is not None and best_overlap([box], targets) > 0.5
            counts[classes[name], 3:] += right, 1, name in named
    return counts.ravel()


def f1_all(sums: FloatArray) -> FloatArray:
    """F1 over all words, of summed `class_counts`, `[..., classes * FIELDS]` -> `[...]`.

    >>> float(f1_all(np.ones(6)))
    1.0
    """
    return _f1(sums, 1, 4)


def f1_loc(sums: FloatArray) -> FloatArray:
    """F1 over the words that were right.

    >>> float(f1_loc(np.array([1.0, 4, 1, 1, 4, 1])))
    1.0
    """
    return _f1(sums, 2, 5)


def _f1(sums: FloatArray, named: int, wanted: int) -> FloatArray:
    by_class = sums.reshape(*sums.shape[:-1], -1, FIELDS)
    # A class that these references do not have, as in a sample of pictures, is not averaged in ...
    there = by_class[..., 4] > 0
    # ... and one that was never named has precision 0, not no precision.
    precision = np.nan_to_num(divide(by_class[..., 0], by_class[..., named]))
    recall = np.nan_to_num(divide(by_class[..., 3], by_class[..., wanted]))
    precision, recall = (
        np.nan_to_num(divide((one * there).sum(-1), there.sum(-1))) for one in (precision, recall)
    )
    total = precision + recall
    return np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1.0), 0.0)
