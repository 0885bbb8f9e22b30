"""The closer look: names a region from a crop round it, with a trunk of its own.

The namer reads maps that a whole picture was squashed into; a crop shows the same region at several times their
resolution. What both think is one opinion (`agreed_nouns`): on dev it is right more often than either alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from openferret.model.trunk import EfficientNetLiteTrunk, SameConvolution, clamped

HEAD_CHANNELS = 1280
"""Of EfficientNet's own head, whose ImageNet weights are kept."""
_BOUNDS = 6
_LEAST = 1e-6


class CloserLook(nn.Module):
    """Crops -> nouns.

    Args:
        config: sizes of the trunk, as of `openferret.model.vision.EfficientNetLiteConfig`.
        nouns: how many names there are, N.
    """

    def __init__(self, config: Any, nouns: int) -> None:
        super().__init__()
        self.trunk = EfficientNetLiteTrunk(config)
        self.head = SameConvolution(config.stage_channels[6], HEAD_CHANNELS, 1)
        self.output = nn.Linear(HEAD_CHANNELS + _BOUNDS, nouns)

    def forward(self, pixels: Tensor, bounds: Tensor) -> Tensor:
        """Crops -> logits of the nouns.

        Args:
            pixels: float [R, 3, S, S] in -1..1, S a multiple of 32.
            bounds: float [R, 4], of the regions in their whole picture, (x1, y1, x2, y2) in 0..1.

        Returns:
            float32 [R, N].
        """
        seen = clamped(self.head(self.trunk(pixels)[2])).mean((-1, -2)).float()
        seen = functional.dropout(seen, 0.4, self.training)
        place = torch.cat([bounds, bounds[:, 2:] - bounds[:, :2]], dim=-1)
        features = torch.cat([seen, place.to(seen.dtype)], dim=-1)
        logits: Tensor = self.output(features.to(self.output.weight.dtype))
        return logits.float()


def agreed_nouns(named: Tensor, closer: Tensor, weight: float) -> Tensor:
    """The namer's opinion and the closer look's as one: their weighted geometric mean.

    Args:
        named: float [R, N], the namer's probabilities.
        closer: float [R, n], the closer look's of the first n nouns, n <= N; a namer that has been taught further nouns
            decides alone how likely these are.
        weight: of the closer look, 0..1.

    Returns:
        float [R, N].

    Example:
        >>> agreed_nouns(torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.1, 0.9]]), 0.5).argmax().item()
        1
    """
    known = named[:, : closer.shape[1]]
    logits = (1 - weight) * known.clamp(min=_LEAST).log() + weight * closer.clamp(min=_LEAST).log()
    shared = known.sum(-1, keepdim=True) * logits.softmax(-1)
    return torch.cat([shared, named[:, closer.shape[1] :]], dim=-1)
