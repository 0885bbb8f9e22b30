"""Where a phrase is: the losses of its place, its cells' boxes and the box round it, phrase by phrase.

Stage T (`openferret.train.stages.trunk`) takes their means, the general loop (`openferret.train.objectives.locator`)
their sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from openferret.model.locator import Located
from openferret.train.stages.losses import centre_cells, generalized_iou

_MIDDLE = 0.5  # share of a box's sides: cells in it are the box's


@dataclass(frozen=True)
class PlaceLosses:
    """Losses of P phrases, of which S have one box.

    Attributes:
        inside: bool [P, T], cells in the middle of one of a phrase's boxes.
        place: float [P], cross-entropy of the place, shared evenly among those cells.
        cell: float [P], 1 - GIoU of those cells' boxes, on average.
        box: float [S], 1 - GIoU of the averaged box.
        edge: float [S], distance of its four sides, added up.
    """

    inside: Tensor
    place: Tensor
    cell: Tensor
    box: Tensor
    edge: Tensor


def place_losses(
    located: Located, boxes: Tensor, valid: Tensor, merged: Tensor, centres: Tensor
) -> PlaceLosses:
    """Compares what the locator says with where things are.

    Args:
        located: of the P phrases; what follows after them is not looked at.
        boxes: float [P, M, 4] in 0..1.
        valid: bool [P, M], False for padding.
        merged: bool [P]; a merged phrase has one box.
        centres: float [T, 2], of the cells.
    """
    count = len(boxes)
    cells = centre_cells(boxes, valid, centres, _MIDDLE)
    inside = cells.any(1)
    target = inside / inside.sum(-1, keepdim=True)
    place = -(target * located.place[:count].log_softmax(-1)).sum(-1)
    # A cell in the middle of several boxes belongs to the smallest.
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    owner = area[..., None].where(cells, torch.inf).argmin(1)
    goal = torch.gather(boxes, 1, owner[..., None].expand(-1, -1, 4))
    row, cell = inside.nonzero(as_tuple=True)
    missed = target[row, cell] * (1 - generalized_iou(located.boxes[row, cell], goal[row, cell]))
    single = merged | (valid.sum(-1) == 1)
    whole, averaged = boxes[single, 0], located.box[:count][single]
    return PlaceLosses(
        inside,
        place,
        missed.new_zeros(count).index_add(0, row, missed),
        1 - generalized_iou(averaged, whole),
        (averaged - whole).abs().sum(-1),
    )
