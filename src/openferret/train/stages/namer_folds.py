"""Namers for the pictures that a namer has learned: each was taught without a share of them, and names that share.

A namer knows the regions it was taught by: on the train pictures Kit's is right for 0.72 of the boxes, on others for
0.45. A language model that reads its hints there learns to trust them blindly. With the hints of a namer that has not
seen the picture it learns what hints are worth, and what the rest of the picture tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

FOLDS = 4


def fold_of(row: int) -> int:
    """Which fold a picture belongs to, by its row in the pixel store: its namer was taught without it."""
    return row % FOLDS


class NamerFolds(nn.Module):
    """The namers of all folds at once.

    Args:
        states: of each fold's `RegionNamer`, its words left out.
    """

    def __init__(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        super().__init__()

        def joined(name: str) -> nn.Parameter:
            return nn.Parameter(torch.stack([one[name].float() for one in states]), requires_grad=False)

        self.hidden_weight, self.hidden_bias = joined("hidden.weight"), joined("hidden.bias")
        self.output_weight, self.output_bias = joined("output.weight"), joined("output.bias")

    def forward(self, features: Tensor, fold: Tensor) -> Tensor:
        """`namer_features` float [R, F] and folds int64 [R] -> logits of the nouns, float [R, N]."""
        hidden = functional.gelu(
            torch.einsum("rf,khf->krh", features, self.hidden_weight) + self.hidden_bias[:, None]
        )
        logits = torch.einsum("krh,knh->krn", hidden, self.output_weight) + self.output_bias[:, None]
        return logits[fold, torch.arange(len(fold), device=fold.device)]
