"""The namer: what a region shows -> nouns, and their words as a hint for the language model.

Taught without the language model, on every named box at once, it learns names from far more regions than
stage L can show; the language model then reads "this is probably a man, a guy or a player" among the words
it already knows, and only has to say it well. Beside the sampler's vector, which keeps a region's layout, it sees what
is in the region anywhere: mean and maximum over its points, the whole picture beside it, and where and how large it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from openferret.model.point_features import read_map

POINT_STEP = 4
"""Every fourth of a region's points is read: more tell no more."""


def pooled_features(feature_maps: Sequence[Tensor], points: Tensor, picture: Tensor) -> Tensor:
    """What is in a region and round it, as one long vector.

    Args:
        feature_maps: float [B, C_l, h_l, w_l] for each level.
        points: float [R, N, 2], (x, y) in 0..1.
        picture: int64 [R], which of the B pictures each region lies on.

    Returns:
        float [R, 3 * sum(C_l) + 6]: for each level mean and maximum over the points and the picture's mean,
        each level brought to one scale; then the region's bounds, width and height.
    """
    read = points[:, ::POINT_STEP]
    parts = []
    for level in feature_maps:
        values = read_map(level, read, picture, align_corners=False)
        everywhere = level.mean((-1, -2))[picture]
        level_parts = torch.cat([values.mean(1), values.amax(1), everywhere], dim=-1)
        parts.append(functional.layer_norm(level_parts, level_parts.shape[-1:]))
    low, high = points.amin(1), points.amax(1)
    place = torch.cat([low, high, high - low], dim=-1)
    return torch.cat([*parts, place.to(parts[0].dtype)], dim=-1)


def namer_features(
    feature_maps: Sequence[Tensor], points: Tensor, picture: Tensor, vectors: Tensor
) -> Tensor:
    """All that a namer reads of regions: `pooled_features`, then the sampler's vectors.

    Args:
        feature_maps: float [B, C_l, h_l, w_l] for each level.
        points: float [R, N, 2], (x, y) in 0..1.
        picture: int64 [R], which of the B pictures each region lies on.
        vectors: float [R, E], from the sampler.

    Returns:
        float [R, F].
    """
    return torch.cat([pooled_features(feature_maps, points, picture), vectors], dim=-1)


class RegionNamer(nn.Module):
    """Names regions.

    Args:
        map_channels: channels of each map that is read.
        nouns: how many names there are, N.
        width: of the language model's word embeddings and of the sampler's vectors, E.
        hidden: width between.
    """

    def __init__(self, map_channels: Sequence[int], nouns: int, width: int, hidden: int = 640) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * sum(map_channels) + 6 + width, hidden)
        self.output = nn.Linear(hidden, nouns)
        self.words = nn.Linear(nouns, width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """`namer_features` [R, F] -> logits of the nouns, float [R, N]."""
        dropped = functional.dropout(features, 0.3, self.training)
        hidden = functional.gelu(self.hidden(dropped))
        logits: Tensor = self.output(functional.dropout(hidden, 0.5, self.training))
        return logits

    def hint(self, features: Tensor) -> Tensor:
        """The mean of the nouns' words, weighted by their probability: [R, F] -> float [R, E]."""
        words: Tensor = self.words(self(features).softmax(-1))
        return words
