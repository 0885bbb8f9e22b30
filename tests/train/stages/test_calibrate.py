from __future__ import annotations

import numpy as np
import pytest

from openferret.train.stages.calibrate import Evidence, fit_logistic


def test_a_fit_finds_the_odds_that_made_the_answers():
    generator = np.random.default_rng(0)
    evidence = Evidence()
    for _ in range(20_000):
        first, second = generator.normal(size=2)
        evidence.add(
            [first, second], generator.random() < 1 / (1 + np.exp(-(1.5 * first - 0.5 * second + 0.3)))
        )
    assert fit_logistic(evidence) == pytest.approx((1.5, -0.5, 0.3), abs=0.08)


def test_answers_that_are_always_right_do_not_run_away():
    assert all(abs(one) < 20 for one in fit_logistic(Evidence([[1.0]] * 50, [1.0] * 50)))
