"""Vectors of points on feature maps, read between the cells as late as possible: reading is linear."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional

from openferret.model import sampler_native
from openferret.model.sampler_native_block import cells_of, takes_points


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


def touched_features(
    feature_map: Tensor, points: Tensor, picture: Tensor, align_corners: bool
) -> PointFeatures:
    """As `map_features`, without the cells that no point reads."""
    if not takes_points(points, picture):
        return map_features(feature_map, points, picture, align_corners).touched()
    maps, channels, height, width = feature_map.shape
    touched, rows, weights = cells_of(points, picture, maps, height, width, align_corners)
    cells = feature_map.permute(0, 2, 3, 1).reshape(-1, channels)
    return PointFeatures(cells if touched is None else cells[touched], rows, weights)


def read_map(feature_map: Tensor, points: Tensor, picture: Tensor, align_corners: bool) -> Tensor:
    """Reads a map at points: the vectors of `map_features`, float [R, N, C]."""
    features = map_features(feature_map, points, picture, align_corners)
    return features.read().to(feature_map.dtype)
