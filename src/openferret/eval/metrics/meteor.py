"""METEOR as NLTK has it: words, then stems, and a penalty for broken order (Banerjee and Lavie 2005).

coco-caption's METEOR 1.5 is another one: it weighs words, knows paraphrases and synonyms, and is written in Java
(`coco_java.py`). NLTK's third stage, synonyms, needs WordNet, which its package does not hold; it is left out
everywhere, so that a figure does not depend on what else a machine has.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec


class _NoSynonyms:
    """Stands where NLTK wants WordNet."""

    def synsets(self, _: str) -> list[object]:
        return []


def has_meteor() -> bool:
    """Whether NLTK is installed: it comes with the extra `eval`."""
    return find_spec("nltk") is not None


def meteor(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The best METEOR of a tokenized caption with any of its references, 0..1; 0 for no words.

    >>> round(meteor(["a", "dog", "running"], [["a", "dog", "runs"]]), 3)
    0.981
    """
    from nltk.translate.meteor_score import meteor_score  # type: ignore[import-untyped]

    kept = [list(one) for one in references if one]
    return float(meteor_score(kept, list(candidate), wordnet=_NoSynonyms())) if candidate and kept else 0.0
