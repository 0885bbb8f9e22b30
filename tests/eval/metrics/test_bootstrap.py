import numpy as np
import pytest

from openferret.eval.metrics.bootstrap import accuracy, estimate, ratio, sum_by_picture


def test_pictures_are_drawn_not_questions():
    """A hundred questions about one picture are one observation: nothing can vary."""
    same = accuracy(["a"] * 100, [1] * 50 + [0] * 50)
    assert (same.value, same.low, same.high, same.n) == (0.5, 0.5, 0.5, 100)
    many = accuracy([str(index) for index in range(100)], [1] * 50 + [0] * 50)
    assert many.low == pytest.approx(0.4, abs=0.03)
    assert many.high == pytest.approx(0.6, abs=0.03)


def test_the_interval_is_that_of_the_normal_distribution_for_many_pictures():
    right = np.random.default_rng(0).random(2000) < 0.3
    found = accuracy([str(index) for index in range(2000)], right.tolist())
    spread = 1.96 * (0.3 * 0.7 / 2000) ** 0.5
    assert found.value - found.low == pytest.approx(spread, rel=0.2)
    assert found.high - found.value == pytest.approx(spread, rel=0.2)


def test_same_seed_same_interval():
    rows = np.random.default_rng(1).random((50, 2))
    assert estimate(rows, ratio, 50) == estimate(rows, ratio, 50)
    assert estimate(rows, ratio, 50, seed=1) != estimate(rows, ratio, 50)


def test_nothing_counted_is_no_value_and_no_crash():
    assert accuracy([], []).value is None
    assert estimate(sum_by_picture(["a"], [(0, 0)]), ratio, 1).value is None


def test_large_sets_are_drawn_in_pieces():
    rows = np.ones((9000, 2))
    assert estimate(rows, ratio, 9000).value == 1.0
