"""The inference of a sampler's block, and of the cells around its points, in C (`sampler_block.h`, `sampler.c`).

The same as sampler.py's in PyTorch, which is used wherever `takes_block` and `takes_points` say no.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from openferret.model import sampler_native as native

_PANEL = 64  # as in sampler_block.h


class _Cells(ctypes.Structure):
    """As in sampler.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("points", "picture", "rows", "weights", "touched")),
        *((name, ctypes.c_int64) for name in ("regions", "count", "maps", "height", "width")),
        ("aligned", ctypes.c_int),
    )


class _Block(ctypes.Structure):
    """As in sampler_block.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("table", "places", "anchors", "neighbors")),
        *((name, ctypes.c_void_p) for name in ("of_neighbor", "of_anchor", "neighbor_place", "anchor_place")),
        *((name, ctypes.c_void_p) for name in ("constant", "norm_weight", "norm_bias")),
        *((name, ctypes.c_void_p) for name in ("pooled", "anchor_places", "rows", "weights")),
        *((name, ctypes.c_int64) for name in ("length", "near", "channels")),
        *((name, ctypes.c_int64) for name in ("regions", "points", "kept", "around")),
        ("epsilon", ctypes.c_float),
        ("mean", ctypes.c_int),
        ("halved", ctypes.c_int),
    )


@dataclass(frozen=True)
class BlockWeights:
    """A block's two matrices, [C, C] in panels of 64 columns, in the block's type; all else in fp32.

    Attributes:
        of_neighbor: what acts on the neighbours.
        of_anchor: what acts on the anchors.
        neighbor_place: float [2, C], what acts on the neighbours' places.
        anchor_place: float [2, C], what acts on the anchors' places.
        constant: float [C].
        norm_weight: float [C].
        norm_bias: float [C].
    """

    of_neighbor: Tensor
    of_anchor: Tensor
    neighbor_place: Tensor
    anchor_place: Tensor
    constant: Tensor
    norm_weight: Tensor
    norm_bias: Tensor

    @classmethod
    def of(
        cls,
        difference: Tensor,
        difference_bias: Tensor,
        aggregate: Tensor,
        aggregate_bias: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
    ) -> BlockWeights:
        """From the layers' own weights (see sampler.py): [C + 2, C + 2], [C + 2], [C, 2 C + 4], and three [C]."""
        with torch.autocast("cpu", enabled=False):
            of_difference, of_anchor = torch.split(aggregate.float().T, len(difference))
            of_neighbor = difference.float().T @ of_difference
            of_anchor = of_anchor - of_neighbor
            constant = difference_bias.float() @ of_difference + aggregate_bias.float()
        return cls(
            _panels(of_neighbor[:-2].to(aggregate.dtype)),
            _panels(of_anchor[:-2].to(aggregate.dtype)),
            of_neighbor[-2:].contiguous(),
            of_anchor[-2:].contiguous(),
            constant,
            norm_weight.float().contiguous(),
            norm_bias.float().contiguous(),
        )


def _panels(matrix: Tensor) -> Tensor:
    """[I, O] -> [O / 64, I, 64]; bf16 numbers by pairs of rows, [O / 64, I / 2, 64, 2]."""
    inputs, outputs = matrix.shape
    if matrix.dtype == torch.bfloat16:
        return matrix.view(inputs // 2, 2, outputs // _PANEL, _PANEL).permute(2, 0, 3, 1).contiguous()
    return matrix.view(inputs, outputs // _PANEL, _PANEL).transpose(0, 1).contiguous()


def takes_block(
    table: Tensor,
    weights: Tensor | None,
    points: Tensor,
    anchors: Tensor,
    neighbors: Tensor,
    *learned: Tensor,
) -> bool:
    """Whether `block` can do it: fp32 or bf16 throughout, on a processor with wide vectors, no gradient wanted."""
    dtype, channels = table.dtype, table.shape[1]
    places = (points,) if weights is None else (points, weights)
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and dtype in (torch.float32, torch.bfloat16)
        and native.are_plain((table, *learned), dtype)
        and native.are_plain(places, torch.float32)
        and native.are_plain((anchors, neighbors), torch.int64)
        # These have no versions by which a change could be seen.
        and not any(one.is_inference() for one in learned)
        and neighbors.numel() * channels >= native.FEWEST_NUMBERS
        and channels % _PANEL == 0
        and channels <= native.MOST_CHANNELS
        and (library := native.kernels()) is not None
        and _is_fast(library, dtype)
    )


@cache
def _is_fast(library: ctypes.CDLL, dtype: torch.dtype) -> bool:
    return bool(library.openferret_block_is_fast(dtype == torch.bfloat16))


def block_step(
    table: Tensor,
    rows: Tensor | None,
    weights: Tensor | None,
    points: Tensor,
    anchors: Tensor,
    neighbors: Tensor,
    learned: BlockWeights,
    epsilon: float,
    pool: str,
) -> native.Step:
    """A block without gradients, of what `takes_block` takes, to be run.

    Args:
        table: [T, C]; the points of all regions, or what they are read from.
        rows: int64 [R, N, K], of the table, for each point; None where the table's rows are the points.
        weights: float [R, N, K], of these rows.
        points: float [R, N, 2], their places.
        anchors: int64 [R, S], into a region's points.
        neighbors: int64 [R, S, k], likewise.
        learned: the block's weights.
        epsilon: of the layer normalisation.
        pool: "max" or "mean".

    Returns:
        What makes the anchors' vectors, [R, S, C] in the table's type, and their places, float [R, S, 2].
    """
    pooled = torch.empty(*anchors.shape, table.shape[1], dtype=table.dtype)
    places = torch.empty(*anchors.shape, 2)
    read = () if rows is None or weights is None else (rows, weights)
    # Held here, for a copy would be gone before it is read.
    held = [native.contiguous(one) for one in (table, points, anchors, neighbors, *read)]
    made = (
        *(learned.of_neighbor, learned.of_anchor, learned.neighbor_place, learned.anchor_place),
        *(learned.constant, learned.norm_weight, learned.norm_bias),
    )
    job = _Block(
        *[one.data_ptr() for one in (*held[:4], *made, pooled, places, *held[4:])],
        length=table.shape[0],
        near=1 if rows is None else rows.shape[2],
        channels=table.shape[1],
        regions=points.shape[0],
        points=points.shape[1],
        kept=anchors.shape[1],
        around=neighbors.shape[2],
        epsilon=epsilon,
        mean=pool == "mean",
        halved=table.dtype == torch.bfloat16,
    )
    return native.Step(job, (*held, *made), (pooled, places), neighbors.numel() * table.shape[1])


def takes_points(points: Tensor, picture: Tensor) -> bool:
    """Whether `cells_of` can do it: fp32 places on a processor, no gradient wanted."""
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and native.are_plain((points,), torch.float32)
        and native.are_plain((picture,), torch.int64)
        and points.numel() >= native.FEWEST_NUMBERS >> 7
        and native.kernels() is not None
    )


def cells_of(
    points: Tensor, picture: Tensor, maps: int, height: int, width: int, aligned: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """The cells around points, as `sampler.map_features`, of what `takes_points` takes.

    Returns:
        Those of all maps' cells that are read, int64 [T], or None where nearly all are; for each point which four of
        these, or of all, int64 [R, N, 4]; and their weights, float [R, N, 4].

    Raises:
        IndexError: a region on a picture that is not there.
    """
    points, picture = native.contiguous(points), native.contiguous(picture)
    rows = torch.empty(*points.shape[:2], 4, dtype=torch.int64)
    weights = torch.empty(*points.shape[:2], 4)
    touched = torch.empty(maps * height * width, dtype=torch.int64)
    held = points, picture, rows, weights, touched
    sizes = *points.shape[:2], maps, height, width
    job = _Cells(*(one.data_ptr() for one in held), *sizes, aligned)
    count = native.opened().openferret_cells(ctypes.byref(job))
    if count == -2:
        raise MemoryError("the sampler found no room to count the cells of its maps")
    if count < 0:
        raise IndexError(f"pictures must be in 0..{maps - 1}")
    return None if count == touched.shape[0] else touched[:count], rows, weights
