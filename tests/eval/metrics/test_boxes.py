import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openferret.eval.metrics.boxes import best_overlap, hull, intersection_over_union, size_class

numbers = st.floats(-1e3, 1e3)
boxes = st.tuples(numbers, numbers, st.floats(0.001, 1e3), st.floats(0.001, 1e3)).map(
    lambda one: (one[0], one[1], one[0] + one[2], one[1] + one[3])
)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),
        ((0, 0, 1, 1), (1, 0, 2, 1), 0.0),  # they touch
        ((0, 0, 4, 4), (1, 1, 2, 2), 1 / 16),
        ((0, 0, 0, 1), (0, 0, 0, 1), 0.0),  # no area
        ((2, 2, 0, 0), (0, 0, 2, 2), 0.0),  # corners the wrong way round
        ((math.nan, 0, 1, 1), (0, 0, 1, 1), 0.0),
        ((0, 0, math.inf, 1), (0, 0, 1, 1), 0.0),
    ],
)
def test_iou_by_hand(first, second, expected):
    assert intersection_over_union(first, second) == pytest.approx(expected)
    assert intersection_over_union(second, first) == pytest.approx(expected)


@given(boxes, boxes)
def test_iou_lies_between_0_and_1_and_is_symmetric(first, second):
    overlap = intersection_over_union(first, second)
    assert 0 <= overlap <= 1 + 1e-9
    assert overlap == pytest.approx(intersection_over_union(second, first))
    assert intersection_over_union(first, first) == pytest.approx(1)


@given(st.lists(boxes, min_size=1, max_size=5))
def test_a_hull_holds_every_box(several):
    x1, y1, x2, y2 = hull(several)
    assert all(x1 <= box[0] and y1 <= box[1] and x2 >= box[2] and y2 >= box[3] for box in several)


def test_iou_is_that_of_pycocotools():
    mask = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(3)
    corners = np.sort(generator.uniform(0, 100, (60, 2, 2)), axis=1).transpose(0, 2, 1).reshape(60, 4)
    ours = corners[:, [0, 2, 1, 3]]
    theirs = np.stack([ours[:, 0], ours[:, 1], ours[:, 2] - ours[:, 0], ours[:, 3] - ours[:, 1]], axis=1)
    expected = mask.iou(theirs[:30], theirs[30:], [0] * 30)
    found = [[intersection_over_union(one, other) for other in ours[30:]] for one in ours[:30]]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_no_candidate_overlaps_nothing():
    assert best_overlap([], [(0, 0, 1, 1)]) == 0
    assert best_overlap([(0, 0, 1, 1)], []) == 0


def test_sizes_are_shares_of_the_picture():
    assert [size_class((0, 0, side, side)) for side in (0.22, 0.23, 0.49, 0.5)] == [
        "small",
        "medium",
        "medium",
        "large",
    ]
