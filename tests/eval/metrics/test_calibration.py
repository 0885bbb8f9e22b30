import numpy as np
import pytest

from openferret.eval.metrics.calibration import bin_counts, expected_calibration_error, reliability


def test_ece_by_hand():
    # Two bins: scores .2 and .4 of which one is right (.3 against .5), and .9 which is right (.9 against 1).
    boxes = [(0.2, True), (0.4, False), (0.9, True)]
    sums = np.sum([bin_counts(score, right, bins=2) for score, right in boxes], axis=0)
    assert float(expected_calibration_error(sums)) == pytest.approx((2 * 0.2 + 1 * 0.1) / 3)


def test_a_perfect_score_of_one_belongs_to_the_last_bin():
    last = reliability([1.0, 0.0], [True, False])
    assert (last[9].n, last[9].right, last[0].n) == (1, 1.0, 1)
    assert last[5].score is None


def test_a_model_that_knows_is_calibrated():
    generator = np.random.default_rng(0)
    scores = generator.random(20_000)
    right = generator.random(20_000) < scores
    sums = np.sum([bin_counts(*pair) for pair in zip(scores, right, strict=True)], axis=0)
    assert float(expected_calibration_error(sums)) < 0.02
