from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openferret.model.locator import (
    Located,
    agreed_box,
    apart,
    boxes_from_distances,
    distinct_instances,
    keep_distinct,
    pairwise_iou,
)


def located(instance: list[float], boxes: list[list[float]]) -> Located:
    scores = torch.tensor([instance])
    return Located(scores, scores, torch.tensor([boxes]), torch.zeros(1, 4), torch.zeros(1), torch.ones(1))


LEFT, NEAR_LEFT, RIGHT = [0.0, 0.0, 0.4, 1.0], [0.0, 0.0, 0.41, 1.0], [0.6, 0.0, 1.0, 1.0]


def test_iou_of_known_boxes():
    boxes = torch.tensor([LEFT, RIGHT])
    torch.testing.assert_close(pairwise_iou(boxes, boxes), torch.eye(2))
    half = pairwise_iou(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[0.0, 0, 0.5, 1]]))
    torch.testing.assert_close(half, torch.tensor([[0.5]]))


def test_the_better_of_two_overlapping_boxes_is_kept_and_places_are_filled_in_order():
    boxes, scores = torch.tensor([[LEFT, NEAR_LEFT, RIGHT]]), torch.tensor([[0.8, 0.9, 0.1]])
    chosen, distinct = keep_distinct(boxes, scores, 3, 0.5)
    assert chosen.tolist() == [[1, 2, 0]]
    assert distinct.tolist() == [[True, True, False]]


@given(st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_kept_boxes_do_not_overlap_and_no_cell_is_taken_twice(seed):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(2, 12, 2, generator=generator) * 0.7
    boxes = torch.cat([low, low + 0.3 * torch.rand(2, 12, 2, generator=generator)], -1)
    chosen, distinct = keep_distinct(boxes, torch.randn(2, 12, generator=generator), 8, 0.3)
    for row in range(2):
        assert len(set(chosen[row].tolist())) == 8
        kept = boxes[row][chosen[row][distinct[row]]]
        assert (pairwise_iou(kept, kept) - torch.eye(len(kept))).max() <= 0.3 + 1e-5


def test_instances_below_the_threshold_are_dropped_but_never_all():
    found = located([2.0, 1.9, -1.0], [LEFT, NEAR_LEFT, RIGHT])
    boxes, scores = distinct_instances(found, 0, threshold=0.3)
    # Both cells on the left mean one thing, whose box lies between theirs.
    assert boxes.shape == (1, 4)
    assert 0.4 < boxes[0, 2] < 0.41
    assert boxes[0, [0, 1, 3]].tolist() == [0, 0, 1]
    boxes, _ = distinct_instances(found, 0, threshold=0.2, share=0.1)
    assert len(boxes) == 2
    boxes, _ = distinct_instances(found, 0, threshold=0.2, share=0.7)
    assert len(boxes) == 1
    boxes, scores = distinct_instances(
        located([-3.0, -4.0, -5.0], [LEFT, NEAR_LEFT, RIGHT]), 0, threshold=0.3
    )
    assert len(boxes) == 1
    assert scores[0] < 0.3


def test_a_part_of_a_better_instance_is_none_and_neither_is_what_holds_it():
    middle, whole, part, beside = (
        (0.2, 0.2, 0.6, 0.6),
        (0.0, 0.0, 1.0, 1.0),
        (0.3, 0.3, 0.45, 0.45),
        (0.55, 0.2, 0.9, 0.6),
    )
    boxes, scores = distinct_instances(
        located([3.0, 2.9, 2.8, 2.7], [middle, whole, part, beside]), 0, threshold=0.3
    )
    torch.testing.assert_close(boxes, torch.tensor([middle, beside]))
    assert len(scores) == 2
    boxes, _ = distinct_instances(located([2.9, 3.0], [middle, whole]), 0, threshold=0.3)
    assert boxes.tolist() == [list(whole)]


def test_a_cells_box_holds_its_centre_and_stays_on_the_picture():
    boxes = boxes_from_distances(torch.randn(1, 12, 4) * 4, rows=3, columns=4)[0].unflatten(0, (3, 4))
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert boxes[2, 3, 0] <= 7 / 8 <= boxes[2, 3, 2]
    assert boxes[0, 0, 1] <= 1 / 6 <= boxes[0, 0, 3]


def test_of_two_things_the_likelier_is_boxed_and_not_their_middle():
    boxes = torch.tensor([[LEFT, NEAR_LEFT, RIGHT]])
    box = agreed_box(boxes, torch.tensor([[0.35, 0.25, 0.4]]))[0]
    assert box[0] < 0.05
    assert 0.4 <= box[2] <= 0.42
    assert agreed_box(boxes, torch.tensor([[0.1, 0.1, 0.8]]))[0, 0] == pytest.approx(0.6)


@given(st.integers(0, 2**16), st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_the_agreed_box_is_expected_to_overlap_something_and_lies_on_the_picture(seed, cells):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(3, cells, 2, generator=generator) * 0.5
    boxes = torch.cat([low, low + 0.05 + 0.4 * torch.rand(3, cells, 2, generator=generator)], -1)
    weight = (2 * torch.randn(3, cells, generator=generator)).softmax(-1)
    box = agreed_box(boxes, weight)
    assert ((box >= 0) & (box <= 1)).all()
    assert (box[:, 2:] > box[:, :2]).all()
    expected = (pairwise_iou(box[:, None], boxes)[:, 0] * weight).sum(-1)
    assert (expected > 0).all()


def test_boxes_of_no_area_are_given_as_they_are():
    nothing = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.2, 0.2, 0.2, 0.2]]])
    assert torch.isfinite(agreed_box(nothing, torch.tensor([[0.9, 0.1]]))).all()
    boxes, _ = distinct_instances(located([2.0, 1.0], nothing[0].tolist()), 0, threshold=0.3)
    assert boxes[0].tolist() == [0.5] * 4


def test_boxes_that_overlap_a_better_one_show_the_same_thing():
    boxes = torch.tensor([[0.0, 0, 0.4, 1], [0.2, 0, 0.6, 1], [0.35, 0, 0.75, 1], [0.0, 0, 0.7, 1]])
    assert apart(boxes) == [0, 1, 2]  # the last has the first within itself
    assert apart(boxes, iou=0.3) == [0, 2]
    assert apart(boxes[:0]) == []
