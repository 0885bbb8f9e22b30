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
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from openferret.model import sampler_native
from openferret.model.point_features import PointFeatures, touched_features
from openferret.model.pooling import pool_pairs
from openferret.model.sampler_native import Step
from openferret.model.sampler_native_block import (
    BlockWeights,
    block_step,
    takes_block,
)

T = TypeVar("T")


def gather_points(values: Tensor, indices: Tensor) -> Tensor:
    """Values [R, N, C], indices int64 [R, ...] into N -> [R, ..., C]."""
    return functional.embedding(_across_regions(indices, values.shape[1]), values.flatten(0, 1))


def _across_regions(indices: Tensor, length: int) -> Tensor:
    """Indices [R, ...] into a region's N points -> into the R * N points of all regions."""
    regions = torch.arange(len(indices), device=indices.device)
    return indices + length * regions.view(-1, *[1] * (indices.dim() - 1))


class _Derived(Generic[T]):
    """What is made of a block's weights, made again only after one of these has changed.

    As to autograd, a write in place through `.data` is invisible to it.
    """

    def __init__(self, make: Callable[..., T]) -> None:
        self._make = make
        self._made: tuple[object, tuple[Tensor, ...], T] | None = None

    def __reduce__(self) -> tuple[type[_Derived[T]], tuple[Callable[..., T]]]:
        return type(self), (self._make,)  # copies of a model make their own

    def __call__(self, *factors: Tensor) -> T:
        now = [(one.data_ptr(), one._version) for one in factors]
        made = self._made
        if made is None or made[0] != now:
            # The factors are held so that no other numbers can come to lie at their addresses.
            held = tuple(one.detach() for one in factors)
            self._made = made = now, held, self._make(*factors)
        return made[-1]


def _fold(
    difference: Tensor, difference_bias: Tensor, aggregate: Tensor, aggregate_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """The matrix W_d D, transposed, and W_d d + c."""
    with torch.autocast(aggregate.device.type, enabled=False):
        of_difference = aggregate.T[: len(difference)]
        return difference.T @ of_difference, functional.linear(
            difference_bias, of_difference.T, aggregate_bias
        )


class SampleGatherPool(nn.Module):
    """One block: neighbours minus their anchor are projected, joined with the anchor, mixed and pooled."""

    def __init__(self, width: int, pool: str) -> None:
        super().__init__()
        self.difference = nn.Linear(width + 2, width + 2)
        self.aggregate = nn.Linear(2 * (width + 2), width)
        self.norm = nn.LayerNorm(width)
        self.pool = pool
        self._fold = _Derived(_fold)
        self._native = _Derived(BlockWeights.of)

    def forward(
        self, features: Tensor | PointFeatures, points: Tensor, anchors: Tensor, neighbors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A block.

        Args:
            features: float [R, N, C].
            points: float [R, N, 2], their places.
            anchors: int64 [R, S], into a region's points.
            neighbors: int64 [R, S, k], likewise.

        Returns:
            The anchors' vectors, float [R, S, C], and their places, [R, S, 2].
        """
        step = self.step(features, points, anchors, neighbors)
        if step is not None:
            pooled, kept = sampler_native.run([step])
            return pooled, kept
        if isinstance(features, Tensor):
            features = PointFeatures.of(features)
        kept = gather_points(points, anchors)
        of_difference, of_anchor = torch.split(self.aggregate.weight.T, self.difference.out_features)
        of_neighbor: tuple[Tensor, ...]
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or of_anchor.is_inference():
            of_neighbor = self.difference.weight.T, of_difference
            constant = functional.linear(self.difference.bias, of_difference.T, self.aggregate.bias)
        else:  # no gradient has to reach the factors
            product, constant = self._fold(*self._factors())
            of_neighbor = (product,)
        moved = features.through(points, *of_neighbor)
        bracket = features.at(anchors).through(kept, of_anchor)
        bracket = bracket - gather_points(moved, anchors) + constant
        pooled = pool_pairs(
            moved.flatten(0, 1),
            bracket.flatten(0, 1),
            _across_regions(neighbors, points.shape[1]).flatten(0, 1),
            self.norm.weight.to(moved.dtype),
            self.norm.bias.to(moved.dtype),
            self.norm.eps,
            self.pool,
        )
        return pooled.view_as(bracket).to(features.table.dtype), kept

    def step(
        self, features: Tensor | PointFeatures, points: Tensor, anchors: Tensor, neighbors: Tensor
    ) -> Step | None:
        """What `forward` does, ready to be run in C; None where PyTorch has to do it."""
        learned = (*self._factors(), self.norm.weight, self.norm.bias)
        table, rows, weights = (
            (features.flatten(0, 1), None, None)
            if isinstance(features, Tensor)
            else (features.table, features.rows, features.weights)
        )
        if not takes_block(table, weights, points, anchors, neighbors, *learned):
            return None
        made = self._native(*learned)
        return block_step(table, rows, weights, points, anchors, neighbors, made, self.norm.eps, self.pool)

    def _factors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        difference, aggregate = self.difference, self.aggregate
        return difference.weight, difference.bias, aggregate.weight, aggregate.bias


class FewRowsLinear(nn.Linear):
    """A linear layer that is mostly asked for a few vectors: one a region."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self._joined = 0  # where the weight lay when its pages were joined

    def forward(self, input: Tensor) -> Tensor:
        """Vectors [R, I] -> [R, O]."""
        step = self.step(input)
        return super().forward(input) if step is None else sampler_native.run([step])[0]

    def step(self, vectors: Tensor) -> Step | None:
        """What `forward` does, ready to be run in C; None where PyTorch has to do it."""
        if not sampler_native.takes_rows(vectors, self.weight, self.bias):
            return None
        if self._joined != self.weight.data_ptr():
            sampler_native.join_pages(self.weight)
            self._joined = self.weight.data_ptr()
        return sampler_native.product(vectors, self.weight, self.bias)


def _project_cells(project: nn.Module, cells: Tensor) -> Tensor:
    """A 1 x 1 convolution of cells [T, C], whose number is another each time: [T, C']."""
    # cuDNN would make a new plan for each T; a product needs none.
    if cells.is_cuda and isinstance(project, nn.Conv2d):
        return functional.linear(cells, project.weight.flatten(1), project.bias)
    projected: Tensor = project(cells.T[None, ..., None])[0, ..., 0].T
    return projected


def _is_watched(module: nn.Module) -> bool:
    """Whether somebody waits for the module to be called."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


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
        features: Tensor | PointFeatures = self._project(feature_maps, places, picture)
        steps = self._steps(features, points, anchors, neighbors)
        if steps is not None:
            return sampler_native.run(steps)[0]
        for block, chosen, near in zip(self.blocks, anchors, neighbors, strict=True):
            features, points = block(features, points, chosen, near)
        assert isinstance(features, Tensor)  # there is a block at least
        vectors: Tensor = self.output(self.flatten(features.flatten(1)))
        return vectors

    def _steps(
        self,
        features: Tensor | PointFeatures,
        points: Tensor,
        anchors: Sequence[Tensor],
        neighbors: Sequence[Tensor],
    ) -> list[Step] | None:
        """All modules after the projection, ready to be run in C; None where one of them has to be called."""
        steps = []
        for block, chosen, near in zip(self.blocks, anchors, neighbors, strict=True):
            if not isinstance(block, SampleGatherPool) or _is_watched(block):
                return None
            step = block.step(features, points, chosen, near)
            if step is None:
                return None
            features, points = step.made
            steps.append(step)
        assert isinstance(features, Tensor)  # there is a block at least
        vectors = features.flatten(1)
        for layer in (self.flatten, self.output):
            if not isinstance(layer, FewRowsLinear) or _is_watched(layer):
                return None
            step = layer.step(vectors)
            if step is None:
                return None
            (vectors,) = step.made
            steps.append(step)
        return steps

    def _project(self, feature_maps: Sequence[Tensor], places: Tensor, picture: Tensor) -> PointFeatures:
        """The maps in their common width; a point's vector is the sum of what it reads in each."""
        tables, rows, weights, above = [], [], [], 0
        for project, level in zip(self.projections, feature_maps, strict=True):
            cells = touched_features(level, places, picture, self.align_corners)
            if isinstance(project, nn.Identity):
                tables.append(cells.table)
            else:
                tables.append(_project_cells(project, cells.table))
            rows.append(cells.rows + above if above else cells.rows)
            assert cells.weights is not None  # of the cells around each point
            weights.append(cells.weights)
            above += cells.table.shape[0]
        if len(tables) == 1:
            return PointFeatures(tables[0], rows[0], weights[0])
        return PointFeatures(torch.cat(tables), torch.cat(rows, -1), torch.cat(weights, -1))
