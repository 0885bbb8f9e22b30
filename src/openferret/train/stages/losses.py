"""Losses of the trunk stage."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def generalized_iou(boxes: Tensor, targets: Tensor) -> Tensor:
    """GIoU of matching boxes (x1, y1, x2, y2): [..., 4] and [..., 4] -> [...], in -1..1."""
    low = torch.maximum(boxes[..., :2], targets[..., :2])
    high = torch.minimum(boxes[..., 2:], targets[..., 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)
    target_area = (targets[..., 2:] - targets[..., :2]).clamp(min=0).prod(-1)
    union = (area + target_area - overlap).clamp(min=1e-7)
    hull = torch.maximum(boxes[..., 2:], targets[..., 2:]) - torch.minimum(boxes[..., :2], targets[..., :2])
    hull_area = hull.clamp(min=0).prod(-1).clamp(min=1e-7)
    return overlap / union - (hull_area - union) / hull_area


def focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss of each element; targets in 0..1."""
    probability = logits.sigmoid()
    loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    miss = probability * (1 - targets) + (1 - probability) * targets
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return weight * miss**gamma * loss


def centre_cells(boxes: Tensor, valid: Tensor, centres: Tensor, shrink: float) -> Tensor:
    """Which cells lie in the middle of which box.

    Args:
        boxes: float [P, M, 4] in 0..1.
        valid: bool [P, M], False for padding.
        centres: float [T, 2], cells' centres in 0..1.
        shrink: the middle's share of each side; the cell nearest to the box's centre always counts.

    Returns:
        bool [P, M, T].
    """
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = (boxes[..., 2:] - boxes[..., :2]) / 2 * shrink
    away = (centres - middle[..., None, :]).abs()
    inside = (away <= half[..., None, :]).all(-1)
    nearest = (away**2).sum(-1).argmin(-1, keepdim=True)
    inside = inside.scatter(-1, nearest, True)
    return inside & valid[..., None]
