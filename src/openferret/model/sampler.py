"""The spatial-aware visual sampler (paper, section 3.2): a region of any shape becomes one vector.

Points drawn in the region read the feature maps; two blocks then keep the farthest points, gather each one's
nearest neighbours and pool them. Between the difference projection and the ReLU everything is linear, so both
matrices act on the points of a block rather than on its (anchor, neighbour) pairs: the same function for a
fraction of the work.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def read_map(feature_map: Tensor, points: Tensor, picture: Tensor, align_corners: bool) -> Tensor:
    """Reads a map bilinearly at points, without a copy of the map for each region.

    Args:
        feature_map: float [B, C, h, w].
        points: float [R, N, 2], (x, y) in 0..1.
        picture: int64 [R], which of the B maps each region reads.
        align_corners: 0 and 1 are the centres of the outermost cells (the reference) rather than their outer
            edges.

    Returns:
        float [R, N, C].
    """
    _, channels, height, width = feature_map.shape
    size = points.new_tensor([width, height])
    place = points * (size - 1) if align_corners else points * size - 0.5
    # Borders repeat the outermost cell; with aligned corners a point in 0..1 never leaves the map.
    place = place.clamp(min=0).minimum(size - 1)
    low = place.floor()
    weight = (place - low).to(feature_map.dtype)
    low_x, low_y = low.long().unbind(-1)
    high_x, high_y = (low_x + 1).clamp(max=width - 1), (low_y + 1).clamp(max=height - 1)
    cells = feature_map.permute(0, 2, 3, 1).reshape(-1, channels)
    first = (picture * height * width)[:, None]
    right, down = weight[..., :1], weight[..., 1:]

    def cell(x: Tensor, y: Tensor) -> Tensor:
        return functional.embedding(first + y * width + x, cells)

    top = cell(low_x, low_y) * (1 - right) + cell(high_x, low_y) * right
    bottom = cell(low_x, high_y) * (1 - right) + cell(high_x, high_y) * right
    return top * (1 - down) + bottom * down


def gather_points(values: Tensor, indices: Tensor) -> Tensor:
    """Values [R, N, C], indices int64 [R, ...] into N -> [R, ..., C]."""
    regions, length, channels = values.shape
    first = torch.arange(regions, device=indices.device).view(-1, *[1] * (indices.dim() - 1)) * length
    return functional.embedding(indices + first, values.reshape(-1, channels))


class SampleGatherPool(nn.Module):
    """One block: neighbours minus their anchor are projected, joined with the anchor, mixed and pooled."""

    def __init__(self, width: int, pool: str) -> None:
        super().__init__()
        self.difference = nn.Linear(width + 2, width + 2)
        self.aggregate = nn.Linear(2 * (width + 2), width)
        self.norm = nn.LayerNorm(width)
        self.pool = pool

    def forward(self, features: Tensor, points: Tensor, anchors: Tensor, neighbors: Tensor) -> Tensor:
        """Features [R, N, C], points [R, N, 2], anchors [R, S], neighbors [R, S, k] -> [R, S, C]."""
        joined = torch.cat([features, points.to(features.dtype)], dim=-1)
        of_difference, of_anchor = torch.split(self.aggregate.weight, joined.shape[-1], dim=1)
        # aggregate([D (n - a) + d ; a]) = (W_d D) n + (W_a - W_d D) a + W_d d + c
        of_neighbor = of_difference @ self.difference.weight
        constant = self.aggregate.bias + of_difference @ self.difference.bias
        projected = functional.linear(joined, of_neighbor)
        bracket = functional.linear(gather_points(joined, anchors), of_anchor - of_neighbor, constant)
        pairs = functional.relu(gather_points(projected, neighbors) + bracket[:, :, None])
        normed: Tensor = self.norm(pairs)
        return normed.amax(dim=2) if self.pool == "max" else normed.mean(dim=2)


class SpatialAwareSampler(nn.Module):
    """Feature maps and the geometry of R regions -> one vector a region.

    Args:
        map_channels: channels of each map that is read.
        anchors: points kept in each block.
        output: width of the vectors.
        width: channels the maps are projected to, and summed in, before the blocks; None reads the only map
            as it is.
        pool: "max" (released checkpoints) or "mean".
        align_corners: see `read_map`.
        transposed: reads the map at (y, x), as the reference and every checkpoint trained with it do.

    Raises:
        ValueError: several maps without a common width, or an unknown pool.
    """

    def __init__(
        self,
        map_channels: Sequence[int],
        anchors: Sequence[int],
        output: int,
        width: int | None = None,
        pool: str = "max",
        align_corners: bool = False,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        if width is None and len(map_channels) > 1:
            raise ValueError(f"{len(map_channels)} maps need a common width; set sampler_dim.")
        if pool not in ("max", "mean"):
            raise ValueError(f"The sampler pools by 'max' or 'mean', not {pool!r}.")
        channels = map_channels[0] if width is None else width
        self.projections = nn.ModuleList(
            nn.Identity() if width is None else nn.Conv2d(c, width, 1) for c in map_channels
        )
        self.blocks = nn.ModuleList(SampleGatherPool(channels, pool) for _ in anchors)
        self.flatten = nn.Linear(anchors[-1] * channels, channels)
        self.output = nn.Linear(channels, output)
        self.align_corners = align_corners
        self.transposed = transposed

    def forward(
        self,
        feature_maps: Sequence[Tensor],
        points: Tensor,
        anchors: Sequence[Tensor],
        neighbors: Sequence[Tensor],
        picture: Tensor,
    ) -> Tensor:
        """Regions of a whole batch at once.

        Args:
            feature_maps: float [B, C_l, h_l, w_l] for each level.
            points: float [R, N, 2], (x, y) in 0..1.
            anchors: for each block, int64 [R, S].
            neighbors: for each block, int64 [R, S, k].
            picture: int64 [R], the picture each region lies on.

        Returns:
            float [R, output].
        """
        places = points.flip(-1) if self.transposed else points
        features = sum(
            read_map(project(level), places, picture, self.align_corners)
            for project, level in zip(self.projections, feature_maps, strict=True)
        )
        if not isinstance(features, Tensor):
            raise ValueError("The sampler was given no feature map.")
        for block, chosen, near in zip(self.blocks, anchors, neighbors, strict=True):
            features = block(features, points, chosen, near)
            points = gather_points(points, chosen)
        vectors: Tensor = self.output(self.flatten(features.flatten(1)))
        return vectors
