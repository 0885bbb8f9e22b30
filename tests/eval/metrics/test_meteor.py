import pytest

from openferret.eval.metrics.captions import LONGEST
from openferret.eval.metrics.meteor import has_meteor, meteor

pytestmark = pytest.mark.skipif(not has_meteor(), reason="NLTK comes with the extra eval")


def test_by_hand():
    """Words and stems: 3 of 3 in one run, so the penalty is 0.5 * (1 / 3) ** 3."""
    assert meteor(["a", "dog", "running"], [["a", "dog", "runs"]]) == pytest.approx(1 - 0.5 / 27)
    # One word of two matches: P = R = 1/2, F = 1/2, penalty 0.5 * 1.
    assert meteor(["a", "cat"], [["a", "dog"]]) == pytest.approx(0.25)


def test_the_best_reference_counts_and_synonyms_do_not():
    assert meteor(["a", "dog"], [["b"], ["a", "dog"]]) == meteor(["a", "dog"], [["a", "dog"]])
    assert meteor(["car"], [["automobile"]]) == 0


def test_nothing_is_zero():
    assert meteor([], [["a"]]) == meteor(["a"], [[]]) == meteor(["a"], []) == 0


def test_a_runaway_answer_ends():
    assert meteor(["never"] * LONGEST, [["a", "dog"]] * 5) == 0
