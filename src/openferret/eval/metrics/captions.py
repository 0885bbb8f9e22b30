"""BLEU-4, CIDEr, CIDEr-D and ROUGE-L of captions, as coco-caption computes them from tokens.

Tokens are lower-case words without punctuation; coco-caption runs the Penn Treebank tokenizer in Java, which
splits "man's" where we do not (`coco_java.py` runs it too, where there is a Java).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from openferret.eval.metrics.bootstrap import FloatArray

Gram: TypeAlias = tuple[str, ...]

_TOKEN = re.compile(r"\w+(?:['\u2019-]\w+)*")
LONGEST = 1000  # tokens of an answer that are read: a caption has some dozen, a runaway model millions


def tokenize(text: str) -> list[str]:
    """Lower-case words, at most `LONGEST`.

    >>> tokenize("A man's T-shirt, blue.")
    ['a', "man's", 't-shirt', 'blue']
    """
    tokens = []
    for match in _TOKEN.finditer(text.lower()):
        tokens.append(match.group())
        if len(tokens) == LONGEST:
            break
    return tokens


def count_grams(tokens: Sequence[str], longest: int = 4) -> Counter[Gram]:
    """How often each run of 1 to `longest` tokens occurs.

    >>> count_grams(["a", "b"])[("a", "b")]
    1
    """
    return Counter(
        tuple(tokens[start : start + size])
        for size in range(1, longest + 1)
        for start in range(len(tokens) - size + 1)
    )


def bleu_counts(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """What a sentence adds to corpus BLEU: its length, the closest reference's, then right and all by n.

    >>> bleu_counts(["a", "b"], [["a", "c"]])
    [2.0, 2.0, 1.0, 0.0, 0.0, 0.0, 2.0, 1.0, 0.0, 0.0]
    """
    most: Counter[Gram] = Counter()
    for reference in references:
        most |= count_grams(reference)
    right = [0.0] * 4
    for gram, count in count_grams(candidate).items():
        right[len(gram) - 1] += min(count, most[gram])
    closest = min((abs(len(one) - len(candidate)), len(one)) for one in references)[1]
    guessed = [float(max(0, len(candidate) - size)) for size in range(4)]
    return [float(len(candidate)), float(closest), *right, *guessed]


def bleu4(sums: FloatArray) -> FloatArray:
    """Corpus BLEU-4 of summed `bleu_counts`, `[..., 10]` -> `[...]`, 0..1, smoothed as coco-caption does.

    >>> float(bleu4(np.array(bleu_counts(list("abcd"), [list("abcd")])))) > 0.99
    True
    """
    tiny, small = 1e-15, 1e-9
    precision = np.prod((sums[..., 2:6] + tiny) / (sums[..., 6:10] + small), axis=-1) ** 0.25
    brevity = (sums[..., 0] + tiny) / (sums[..., 1] + small)
    penalty = np.exp(np.minimum(0.0, 1 - 1 / brevity))
    return np.asarray(precision * penalty)


class Cider:
    """CIDEr over a corpus: grams weigh by how few pictures' references have them (arXiv 1411.5726).

    Args:
        references: of every picture, tokenized. At least two pictures, or every weight is 0.

    >>> scorer = Cider([[["a", "red", "ball"]], [["a", "dog"]]])
    >>> round(scorer.cider(["a", "red", "ball"], 0), 3)
    7.5
    """

    def __init__(self, references: Sequence[Sequence[Sequence[str]]]) -> None:
        grams = [[count_grams(reference) for reference in picture] for picture in references]
        self._pictures = len(grams)
        self._found_in = Counter(
            gram for picture in grams for gram in {key for one in picture for key in one}
        )
        self._references = [[self._weigh(one) for one in picture] for picture in grams]

    def cider(self, candidate: Sequence[str], picture: int) -> float:
        """Mean cosine of the weighted grams of 1 to 4 tokens, times 10."""
        return self._score(candidate, picture, clipped=False)

    def cider_d(self, candidate: Sequence[str], picture: int) -> float:
        """CIDEr-D: counts clipped, other lengths punished (sigma 6); what coco-caption calls CIDEr."""
        return self._score(candidate, picture, clipped=True)

    def _weigh(self, counts: Counter[Gram]) -> tuple[list[dict[Gram, float]], list[float], int]:
        weights: list[dict[Gram, float]] = [{}, {}, {}, {}]
        total = math.log(max(1, self._pictures))
        for gram, count in counts.items():
            weights[len(gram) - 1][gram] = count * (total - math.log(max(1, self._found_in[gram])))
        norms = [math.sqrt(sum(value * value for value in one.values())) for one in weights]
        # coco-caption measures length in pairs of tokens.
        return weights, norms, sum(count for gram, count in counts.items() if len(gram) == 2)

    def _score(self, candidate: Sequence[str], picture: int, clipped: bool) -> float:
        mine, my_norms, my_length = self._weigh(count_grams(candidate))
        total = 0.0
        for theirs, their_norms, their_length in self._references[picture]:
            penalty = math.exp(-((my_length - their_length) ** 2) / (2 * 6.0**2)) if clipped else 1.0
            for size in range(4):
                norm = my_norms[size] * their_norms[size]
                common = mine[size].keys() & theirs[size].keys()
                dot = sum(
                    (min(mine[size][gram], theirs[size][gram]) if clipped else mine[size][gram])
                    * theirs[size][gram]
                    for gram in common
                )
                total += penalty * dot / norm / 4 if norm else 0.0
        return 10 * total / len(self._references[picture])


def rouge_l(candidate: Sequence[str], references: Sequence[Sequence[str]], beta: float = 1.2) -> float:
    """ROUGE-L as coco-caption: F of the best precision and the best recall of the longest common subsequence.

    >>> rouge_l(["a", "dog"], [["a", "dog"]])
    1.0
    """
    lengths = [(longest_common(candidate, reference), len(reference)) for reference in references]
    precision = max((common / max(1, len(candidate)) for common, _ in lengths), default=0.0)
    recall = max((common / max(1, length) for common, length in lengths), default=0.0)
    if not precision or not recall:
        return 0.0
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    >>> longest_common("abcd", "xbyd")
    2
    """
    previous = [0] * (len(second) + 1)
    for one in first:
        row = [0]
        for index, other in enumerate(second):
            row.append(previous[index] + 1 if one == other else max(row[-1], previous[index + 1]))
        previous = row
    return previous[-1]
