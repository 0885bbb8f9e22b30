"""Yes and no: POPE's rule, ours, and what is counted from them (arXiv 2305.10355)."""

from __future__ import annotations

import re
from typing import Literal

from openferret.eval.metrics.bootstrap import FloatArray, divide

YesNo = Literal["yes", "no"]

_YES = frozenset({"yes", "yeah", "yep", "yup", "indeed", "certainly"})
_NO = frozenset({"no", "nope", "not", "none", "nothing", "isn't", "aren't", "cannot", "can't", "don't"})
_WORDS = re.compile(r"[a-z]+(?:'[a-z]+)?")
_FIRST_SENTENCE = re.compile(r"[^.!?\n]*")


def official_answer(text: str) -> YesNo:
    """Ferret's rule: the first sentence, in small letters, has the word "no" or "not"; all else is yes.

    Even an empty answer is yes. POPE's own script does not fold the letters, and takes "NO" for yes.

    >>> official_answer("No, there is none."), official_answer("")
    ('no', 'yes')
    """
    words = text.lower().split(".")[0].replace(",", "").split(" ")
    return "no" if {"no", "not"} & set(words) else "yes"


def strict_answer(text: str) -> YesNo | None:
    """What the first sentence with a word says: its first word if that is yes or no, else its only verdict.

    None if it says neither or both.

    >>> strict_answer("YES!"), strict_answer("There isn't a dog."), strict_answer("A dog."), strict_answer("")
    ('yes', 'no', None, None)
    """
    sentences = (match.group() for match in _FIRST_SENTENCE.finditer(text[:100_000].replace("\u2019", "'")))
    words = next((found for one in sentences if (found := _WORDS.findall(one.lower()))), [])
    if not words:
        return None
    if words[0] in _YES:
        return "yes"
    if words[0] in _NO:
        return "no"
    said = {"yes" if word in _YES else "no" for word in words if word in _YES | _NO}
    if len(said) > 1:
        return None
    if said:
        return "yes" if "yes" in said else "no"
    # "There is a dog in the picture" affirms without a yes.
    return "yes" if words[:2] in (["there", "is"], ["there", "are"]) else None


def confusion(answer: YesNo | None, truth: YesNo) -> list[float]:
    """Counts of one question: true yes, false yes, true no, false no, said yes, questions.

    An answer that says neither is wrong: a false no where yes was right, and nothing but a question where no
    was right.

    >>> confusion("yes", "no"), confusion(None, "yes")
    ([0.0, 1.0, 0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0, 0.0, 1.0])
    """
    counts = [
        answer == "yes" and truth == "yes",
        answer == "yes" and truth == "no",
        answer == "no" and truth == "no",
        answer != "yes" and truth == "yes",
        answer == "yes",
        True,
    ]
    return [float(one) for one in counts]


def accuracy_of(sums: FloatArray) -> FloatArray:
    """(true yes + true no) / questions, of summed `confusion`, `[..., 6]` -> `[...]`.

    >>> import numpy as np
    >>> float(accuracy_of(np.array([1.0, 0, 1, 0, 1, 2])))
    1.0
    """
    return divide(sums[..., 0] + sums[..., 2], sums[..., 5])


def precision_of(sums: FloatArray) -> FloatArray:
    """True yes / said yes; NaN if yes was never said.

    >>> import numpy as np
    >>> float(precision_of(np.array([1.0, 1, 0, 0, 2, 2])))
    0.5
    """
    return divide(sums[..., 0], sums[..., 0] + sums[..., 1])


def recall_of(sums: FloatArray) -> FloatArray:
    """True yes / questions whose answer is yes.

    >>> import numpy as np
    >>> float(recall_of(np.array([1.0, 0, 0, 1, 1, 2])))
    0.5
    """
    return divide(sums[..., 0], sums[..., 0] + sums[..., 3])


def f1_of(sums: FloatArray) -> FloatArray:
    """Harmonic mean of precision and recall: 2 true yes / (2 true yes + false yes + false no).

    >>> import numpy as np
    >>> float(f1_of(np.array([1.0, 1, 0, 1, 2, 3])))
    0.5
    """
    return divide(2 * sums[..., 0], 2 * sums[..., 0] + sums[..., 1] + sums[..., 3])


def yes_share_of(sums: FloatArray) -> FloatArray:
    """How often yes was said.

    >>> import numpy as np
    >>> float(yes_share_of(np.array([1.0, 1, 0, 0, 2, 2])))
    1.0
    """
    return divide(sums[..., 4], sums[..., 5])
