import pytest
import torch

from openferret.model.vision import cell_centres
from openferret.train.stages.losses import centre_cells, focal_loss, generalized_iou


def test_generalized_iou_by_hand():
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.2, 1.0]])
    targets = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.8, 0.0, 1.0, 1.0]])
    # Apart: IoU 0, union 0.4 of a hull of 1.
    torch.testing.assert_close(generalized_iou(boxes, targets), torch.tensor([1.0, -0.6]))


def test_focal_loss_forgives_what_is_known():
    sure, unsure = focal_loss(torch.tensor([6.0, 0.0]), torch.ones(2))
    assert sure < unsure / 1000


def test_every_box_has_a_cell_even_one_smaller_than_any():
    centres = cell_centres(4, 4)
    boxes = torch.tensor([[[0.26, 0.26, 0.27, 0.27], [0.0, 0.0, 1.0, 1.0]]])
    cells = centre_cells(boxes, torch.tensor([[True, True]]), centres, 0.5)
    assert cells[0, 0].nonzero().flatten().tolist() == [5]
    assert cells[0, 1].sum() == 4
    assert not centre_cells(boxes, torch.tensor([[False, False]]), centres, 0.5).any()


@pytest.mark.parametrize("shrink", [0.1, 1.0])
def test_centre_cells_lie_in_their_box(shrink):
    centres = cell_centres(8, 8)
    box = torch.tensor([[[0.2, 0.3, 0.9, 0.8]]])
    inside = centres[centre_cells(box, torch.tensor([[True]]), centres, shrink)[0, 0]]
    assert (inside >= box[0, 0, :2]).all()
    assert (inside <= box[0, 0, 2:]).all()
