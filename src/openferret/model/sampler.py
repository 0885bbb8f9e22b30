"""The spatial-aware visual sampler (paper, section 3.2): a region of any shape becomes one vector.

Points drawn in the region read the feature maps; two blocks then keep the farthest points, gather each one's
nearest neighbours and pool them. With D the projection of differences, W the aggregation and [n], [a] the vectors
of a neighbour and its anchor, a block computes for every pair, before its ReLU,

    W_d (D (n - a) + d) + W_a a + c  =  W_d D n  -  W_d D a  +  W_a a  +  (W_d d + c)

which is linear in n and in a. So the matrices act on points rather than pairs; where a picture has fewer cells
than its regions have points, on the cells, for reading between cells is linear too; and at inference W_d D and
W_d d + c are multiplied once. What is left of the pairs is in `pooling.py`. The result is the same function, tested
against the formula on the left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional

from openferret.model import sampler_native
from openferret.model.pooling import pool_pairs


@dataclass(frozen=True)
class PointFeatures:
    """Vectors of points that have not been read yet: each is a weighted sum of a few rows of a table.

    Attributes:
        table: float [T, C].
        rows: int64 [R, N, K], the rows that each of N points of R regions reads.
        weights: float [R, N, K]; None where every point is one row as it is (K = 1).
    """

    table: Tensor
    rows: Tensor
    weights: Tensor | None

    @classmethod
    def of(cls, vectors: Tensor) -> PointFeatures:
        """Vectors [R, N, C] that are there already."""
        regions, length, _ = vectors.shape
        rows = torch.arange(regions * length, device=vectors.device).view(regions, length, 1)
        return cls(vectors.flatten(0, 1), rows, None)

    def at(self, chosen: Tensor) -> PointFeatures:
        """Some points of each region: int64 [R, S] into N."""
        chosen = chosen[..., None]
        weights = None if self.weights is None else self.weights.take_along_dim(chosen, 1)
        return PointFeatures(self.table, self.rows.take_along_dim(chosen, 1), weights)

    def touched(self) -> PointFeatures:
        """The same without the table's rows that no point reads."""
        if torch.compiler.is_compiling():  # a compiled model cannot have shapes that depend on numbers
            return self
        used = self.rows.new_zeros(len(self.table), dtype=torch.bool)
        used[self.rows] = True
        return PointFeatures(self.table[used], (used.cumsum(0) - 1)[self.rows], self.weights)

    def read(self) -> Tensor:
        """The vectors: float [R, N, C], in fp32 at least where rows are summed."""
        if self.weights is None:
            return functional.embedding(self.rows[..., 0], self.table)
        precision = torch.promote_types(self.table.dtype, torch.float32)
        table, rows = self.table.to(precision), self.rows.flatten(0, 1)
        weights = self.weights.flatten(0, 1).to(precision)
        if sampler_native.takes_table(table, rows, weights):
            read = sampler_native.read_table(table, rows, weights)
        else:
            read = functional.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")
        return read.view(*self.rows.shape[:2], read.shape[1])

    def through(self, points: Tensor, first: Tensor, *others: Tensor) -> Tensor:
        """The vectors and their points' places, joined, times matrices: reading comes last where that is less work.

        Args:
            points: float [R, N, 2].
            first: float [C + 2, C'].
            others: what follows it; multiplied in the cheapest order.

        Returns:
            float [R, N, C''], in fp32 at least.
        """
        of_vector, of_place = torch.split(first, [first.shape[0] - 2, 2])
        of_place = reduce(torch.matmul, others, of_place)
        if len(self.table) < points[..., 0].numel() and self.weights is not None:
            table = torch.linalg.multi_dot([self.table, of_vector, *others])
            # The places are two more weights, of two more rows.
            axes = torch.arange(2, device=points.device) + len(table)
            return PointFeatures(
                torch.cat([table, of_place]),
                torch.cat([self.rows, axes.expand_as(points)], dim=-1),
                torch.cat([self.weights, points.to(self.weights.dtype)], dim=-1),
            ).read()
        vectors = self.read().to(self.table.dtype).flatten(0, 1)
        product = torch.linalg.multi_dot([vectors, of_vector, *others])
        precision = torch.promote_types(product.dtype, torch.float32)
        places = points.flatten(0, 1).to(precision)
        joined = torch.addmm(product.to(precision), places, of_place.to(precision))
        return joined.view(*points.shape[:2], joined.shape[1])


def map_features(feature_map: Tensor, points: Tensor, picture: Tensor, align_corners: bool) -> PointFeatures:
    """Vectors of points on a map, between its cells: bilinear, without a copy of the map for each region.

    Args:
        feature_map: float [B, C, h, w].
        points: float [R, N, 2], (x, y) in 0..1.
        picture: int64 [R], which of the B maps each region reads.
        align_corners: 0 and 1 are the centres of the outermost cells (the reference) rather than their outer
            edges.

    Returns:
        [R, N] points, each the sum of four cells.
    """
    _, channels, height, width = feature_map.shape
    size = points.new_tensor([width, height])
    place = points * (size - 1) if align_corners else points * size - 0.5
    # Borders repeat the outermost cell; with aligned corners a point in 0..1 never leaves the map.
    place = place.clamp(min=0).minimum(size - 1)
    low = place.floor()
    right, down = (place - low).unbind(-1)
    x, y = low.long().unbind(-1)
    next_x, next_y = (x + 1).clamp(max=width - 1), (y + 1).clamp(max=height - 1)
    first = (picture * height * width)[:, None, None]
    rows = torch.stack([y * width + x, y * width + next_x, next_y * width + x, next_y * width + next_x], -1)
    weights = [(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down]
    cells = feature_map.permute(0, 2, 3, 1).reshape(-1, channels)
    return PointFeatures(cells, first + rows, torch.stack(weights, -1))


def read_map(feature_map: Tensor, points: Tensor, picture: Tensor, align_corners: bool) -> Tensor:
    """Reads a map at points: the vectors of `map_features`, float [R, N, C]."""
    features = map_features(feature_map, points, picture, align_corners)
    return features.read().to(feature_map.dtype)


def gather_points(values: Tensor, indices: Tensor) -> Tensor:
    """Values [R, N, C], indices int64 [R, ...] into N -> [R, ..., C]."""
    return functional.embedding(_across_regions(indices, values.shape[1]), values.flatten(0, 1))


def _across_regions(indices: Tensor, length: int) -> Tensor:
    """Indices [R, ...] into a region's N points -> into the R * N points of all regions."""
    regions = torch.arange(len(indices), device=indices.device)
    return indices + length * regions.view(-1, *[1] * (indices.dim() - 1))


class _Fold:
    """Matrices W_d D and W_d d + c of a block, multiplied again only after one of their factors has changed.

    As to autograd, a write in place through `.data` is invisible to it.
    """

    def __init__(self) -> None:
        self._made: tuple[object, tuple[Tensor, ...], tuple[Tensor, Tensor]] | None = None

    def __reduce__(self) -> tuple[Callable[[], _Fold], tuple[()]]:
        return _Fold, ()  # copies of a model multiply their own

    def __call__(self, difference: nn.Linear, aggregate: nn.Linear) -> tuple[Tensor, Tensor]:
        factors = difference.weight, difference.bias, aggregate.weight, aggregate.bias
        now = [(one.data_ptr(), one._version) for one in factors]
        made = self._made
        if made is None or made[0] != now:
            with torch.autocast(factors[0].device.type, enabled=False):
                of_difference = aggregate.weight.T[: difference.out_features]
                product = difference.weight.T @ of_difference
                constant = functional.linear(difference.bias, of_difference.T, aggregate.bias)
            # The factors are held so that no other numbers can come to lie at their addresses.
            held = tuple(one.detach() for one in factors)
            self._made = made = now, held, (product, constant)
        return made[-1]


class SampleGatherPool(nn.Module):
    """One block: neighbours minus their anchor are projected, joined with the anchor, mixed and pooled."""

    def __init__(self, width: int, pool: str) -> None:
        super().__init__()
        self.difference = nn.Linear(width + 2, width + 2)
        self.aggregate = nn.Linear(2 * (width + 2), width)
        self.norm = nn.LayerNorm(width)
        self.pool = pool
        self._fold = _Fold()

    def forward(
        self, features: Tensor | PointFeatures, points: Tensor, anchors: Tensor, neighbors: Tensor
    ) -> Tensor:
        """Features [R, N, C], points [R, N, 2], anchors [R, S], neighbors [R, S, k] -> [R, S, C]."""
        if isinstance(features, Tensor):
            features = PointFeatures.of(features)
        of_difference, of_anchor = torch.split(self.aggregate.weight.T, self.difference.out_features)
        of_neighbor: tuple[Tensor, ...]
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or of_anchor.is_inference():
            of_neighbor = self.difference.weight.T, of_difference
            constant = functional.linear(self.difference.bias, of_difference.T, self.aggregate.bias)
        else:  # no gradient has to reach the factors
            product, constant = self._fold(self.difference, self.aggregate)
            of_neighbor = (product,)
        moved = features.through(points, *of_neighbor)
        kept = features.at(anchors).through(gather_points(points, anchors), of_anchor)
        bracket = kept - gather_points(moved, anchors) + constant
        pooled = pool_pairs(
            moved.flatten(0, 1),
            bracket.flatten(0, 1),
            _across_regions(neighbors, points.shape[1]).flatten(0, 1),
            self.norm.weight.to(moved.dtype),
            self.norm.bias.to(moved.dtype),
            self.norm.eps,
            self.pool,
        )
        return pooled.view_as(bracket).to(features.table.dtype)


class FewRowsLinear(nn.Linear):
    """A linear layer that is mostly asked for a few vectors: one a region."""

    def forward(self, input: Tensor) -> Tensor:
        """Vectors [R, I] -> [R, O]."""
        if sampler_native.takes_rows(input, self.weight):
            return (sampler_native.multiply(input, self.weight) + self.bias).to(input.dtype)
        return super().forward(input)


class SpatialAwareSampler(nn.Module):
    """Feature maps and the geometry of R regions -> one vector a region.

    Args:
        map_channels: channels of each map that is read.
        anchors: points kept in each block.
        output: width of the vectors.
        width: channels the maps are projected to, and summed in, before the blocks; None reads the only map
            as it is.
        pool: "max" (released checkpoints) or "mean".
        align_corners: see `map_features`.
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
        self.flatten = FewRowsLinear(anchors[-1] * channels, channels)
        self.output = FewRowsLinear(channels, output)
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
        features = self._project(feature_maps, places, picture)
        for block, chosen, near in zip(self.blocks, anchors, neighbors, strict=True):
            features = PointFeatures.of(block(features, points, chosen, near))
            points = gather_points(points, chosen)
        vectors: Tensor = self.output(
            self.flatten(features.table.view(len(points), self.flatten.in_features))
        )
        return vectors

    def _project(self, feature_maps: Sequence[Tensor], places: Tensor, picture: Tensor) -> PointFeatures:
        """The maps in their common width; a point's vector is the sum of what it reads in each."""
        tables, rows, weights, above = [], [], [], 0
        for project, level in zip(self.projections, feature_maps, strict=True):
            cells = map_features(level, places, picture, self.align_corners).touched()
            tables.append(project(cells.table.T[None, ..., None])[0, ..., 0].T)
            rows.append(cells.rows + above)
            assert cells.weights is not None  # of the cells around each point
            weights.append(cells.weights)
            above += len(cells.table)
        return PointFeatures(torch.cat(tables), torch.cat(rows, -1), torch.cat(weights, -1))
