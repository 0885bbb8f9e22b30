from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openferret.model.locator import (
    Located,
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
    assert boxes.tolist() == [torch.tensor(LEFT).tolist()]
    boxes, _ = distinct_instances(found, 0, threshold=0.2, share=0.1)
    assert len(boxes) == 2
    boxes, _ = distinct_instances(found, 0, threshold=0.2, share=0.7)
    assert len(boxes) == 1
    boxes, scores = distinct_instances(
        located([-3.0, -4.0, -5.0], [LEFT, NEAR_LEFT, RIGHT]), 0, threshold=0.3
    )
    assert len(boxes) == 1
    assert scores[0] < 0.3


def test_a_cells_box_holds_its_centre_and_stays_on_the_picture():
    boxes = boxes_from_distances(torch.randn(1, 12, 4) * 4, rows=3, columns=4)[0].unflatten(0, (3, 4))
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert boxes[2, 3, 0] <= 7 / 8 <= boxes[2, 3, 2]
    assert boxes[0, 0, 1] <= 1 / 6 <= boxes[0, 0, 3]
