"""The end of a sampler block: ReLU, layer normalisation and pooling of (anchor, neighbour) pairs, fused.

The pairs of real regions take a hundred times the memory of their points, and reading and writing them would
cost more time than the matrices do. They are therefore made a few anchors at a time, in the processor's cache, and
made again for the gradient. On a processor, where a C compiler is there, they are not made at all (`sampler.c`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from openferret.model import sampler_native

CHUNK_NUMBERS = {"cpu": 2**17}  # half a MiB in fp32, of a core's second-level cache
CHUNK_NUMBERS_ELSEWHERE = 2**24  # on accelerators, starting a kernel costs more than its memory


def pool_pairs(
    neighbor_part: Tensor,
    anchor_part: Tensor,
    neighbors: Tensor,
    weight: Tensor,
    bias: Tensor,
    epsilon: float,
    pool: str,
) -> Tensor:
    """Pools `LayerNorm(ReLU(neighbour + anchor))` over the neighbours of each anchor.

    Args:
        neighbor_part: float [P, C], what each point adds to the pairs in which it is the neighbour.
        anchor_part: float [A, C], what each anchor adds to its pairs.
        neighbors: int64 [A, k], the points that are each anchor's neighbours.
        weight: float [C], of the layer normalisation.
        bias: float [C], of the layer normalisation.
        epsilon: of the layer normalisation.
        pool: "max" or "mean".

    Returns:
        float [A, C].
    """
    inputs = neighbor_part, anchor_part, neighbors, weight, bias, epsilon, pool
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        pooled: Tensor = _PoolPairs.apply(*inputs)  # type: ignore[no-untyped-call]
        return pooled
    return _pool(*inputs)


def _pool(neighbor_part: Tensor, anchor_part: Tensor, neighbors: Tensor, *how: Any) -> Tensor:
    if sampler_native.takes_pairs(neighbor_part, anchor_part, neighbors, *how[:2]):
        return sampler_native.pool_pairs(neighbor_part, anchor_part, neighbors, *how)
    if torch.compiler.is_compiling():  # a loop would be compiled as often as it runs
        return _norm_and_pool(_pairs(neighbor_part, anchor_part, neighbors), *how)
    step = _anchors_at_once(neighbor_part, neighbors)
    pooled = torch.empty_like(anchor_part)
    # One buffer for the pairs of all chunks: new memory would cost more than what is done in it.
    room = neighbor_part.new_empty(min(step, len(neighbors)) * neighbors.shape[1], neighbor_part.shape[1])
    for first in range(0, len(neighbors), step):
        near = neighbors[first : first + step]
        pairs = torch.index_select(neighbor_part, 0, near.flatten(), out=room[: near.numel()])
        pairs = pairs.view(*near.shape, -1).add_(anchor_part[first : first + step, None])
        pooled[first : first + step] = _norm_and_pool(pairs, *how)
    return pooled


class _PoolPairs(torch.autograd.Function):
    """`_pool`, of which only the inputs are kept for the gradient."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        ctx.save_for_backward(*inputs[:5])
        ctx.how = inputs[5:]
        return _pool(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        neighbor_part, anchor_part, neighbors, *affine = ctx.saved_tensors
        affine = [one.detach().requires_grad_() for one in affine]
        of_neighbors, of_anchors = torch.zeros_like(neighbor_part), torch.empty_like(anchor_part)
        of_affine = [torch.zeros_like(one) for one in affine]
        step = _anchors_at_once(neighbor_part, neighbors)
        chunks = (torch.split(one, step) for one in (anchor_part, neighbors, gradient, of_anchors))
        for some, near, wanted, of_some in zip(*chunks, strict=True):
            pairs = _pairs(neighbor_part, some, near).requires_grad_()
            with torch.enable_grad():
                pooled = _norm_and_pool(pairs, *affine, *ctx.how)
            of_pairs, *of_some_affine = torch.autograd.grad(pooled, (pairs, *affine), wanted)
            torch.sum(of_pairs, dim=1, out=of_some)
            of_neighbors.index_add_(0, near.flatten(), of_pairs.flatten(0, 1))
            for total, one in zip(of_affine, of_some_affine, strict=True):
                total += one
        return of_neighbors, of_anchors, None, *of_affine, None, None


def _anchors_at_once(neighbor_part: Tensor, neighbors: Tensor) -> int:
    numbers = CHUNK_NUMBERS.get(neighbor_part.device.type, CHUNK_NUMBERS_ELSEWHERE)
    return max(1, numbers // (neighbors.shape[1] * neighbor_part.shape[1]))


def _pairs(neighbor_part: Tensor, anchor_part: Tensor, neighbors: Tensor) -> Tensor:
    """Neighbour + anchor: [P, C], [A, C], [A, k] -> [A, k, C]."""
    pairs = functional.embedding(neighbors, neighbor_part)
    pairs += anchor_part[:, None]
    return pairs


def _norm_and_pool(pairs: Tensor, weight: Tensor, bias: Tensor, epsilon: float, pool: str) -> Tensor:
    positive = functional.relu(pairs, inplace=not pairs.requires_grad)
    normed = functional.layer_norm(positive, weight.shape, weight, bias, epsilon)
    return normed.amax(dim=1) if pool == "max" else normed.mean(dim=1)
