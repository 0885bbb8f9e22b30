"""In which forms people say a noun, and with which beginning: "a man", but "jeans" and "the grass"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from openferret.nouns import head_noun, head_words

LEAST_TIMES = 2
LEAST_SHARE = 0.01
"""Forms that are rarer are slips of the pen, or of the rule that folds plurals."""


def count_forms(phrases: Iterable[str]) -> dict[str, dict[str, tuple[int, int]]]:
    """How often each noun is said in which form: in phrases that begin with "a" or "an", and in others.

    A word that is more often before a noun than one itself ("two", "blue", "tennis") is no form of a noun: whoever is
    free to choose among nouns must not touch it.

    Args:
        phrases: such as "a man in a hat".

    Returns:
        For each head noun, its forms, the commonest first; none for such words.

    Example:
        >>> count_forms(["a dog", "a big dog", "two dogs", "the dogs", "blue jeans", "jeans", "blue"])
        {'dog': {'dog': (2, 0), 'dogs': (0, 2)}, 'jean': {'jeans': (0, 2)}, 'blue': {}}
    """
    said: dict[str, Counter[tuple[str, bool]]] = {}
    heads, others = Counter[str](), Counter[str]()
    for phrase in phrases:
        if words := head_words(phrase):
            said.setdefault(head_noun(phrase), Counter())[words[-1], words[0] in ("a", "an")] += 1
            heads[words[-1]] += 1
            others.update(words[:-1])
    counts = {}
    for noun, times in said.items():
        least = max(LEAST_TIMES, LEAST_SHARE * times.total())
        forms = {form: (times[form, True], times[form, False]) for form, _ in times}
        kept = {
            form: both for form, both in forms.items() if sum(both) >= least and heads[form] >= others[form]
        }
        counts[noun] = dict(sorted(kept.items(), key=lambda pair: -sum(pair[1])))
    return counts
