import numpy as np
import pytest

from openferret.eval.metrics import yesno


@pytest.mark.parametrize(
    ("text", "official", "strict"),
    [
        ("Yes", "yes", "yes"),
        ("No, there is no dog. Yes!", "no", "no"),
        ("NO", "no", "no"),  # the reference lowers the answer first
        ("Not that I can see.", "no", "no"),
        ("no.", "no", "no"),
        ("There is not a dog", "no", "no"),
        ("I cannot see one", "yes", "no"),
        ("Perhaps.", "yes", None),
        ("", "yes", None),
        ("...", "yes", None),
        ("It is not clear: yes", "no", None),
        ("There are two dogs.", "yes", "yes"),
        ("It's a notebook", "yes", None),
        ("yes\nno", "yes", "yes"),
    ],
)
def test_rules(text, official, strict):
    assert yesno.official_answer(text) == official
    assert yesno.strict_answer(text) == strict


def test_metrics_by_hand():
    answers = [("yes", "yes"), ("yes", "no"), ("no", "no"), ("no", "yes"), (None, "yes"), (None, "no")]
    sums = np.sum([yesno.confusion(*pair) for pair in answers], axis=0)
    assert float(yesno.accuracy_of(sums)) == pytest.approx(2 / 6)
    assert float(yesno.precision_of(sums)) == pytest.approx(1 / 2)
    assert float(yesno.recall_of(sums)) == pytest.approx(1 / 3)
    assert float(yesno.f1_of(sums)) == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
    assert float(yesno.yes_share_of(sums)) == pytest.approx(2 / 6)


def test_precision_of_a_model_that_never_says_yes_is_undefined():
    sums = np.array(yesno.confusion("no", "yes"))
    assert np.isnan(yesno.precision_of(sums))
    assert float(yesno.f1_of(sums)) == 0
