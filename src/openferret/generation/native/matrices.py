"""One matrix of a language model as kernels.h reads it: in eight bits, or as published in four, plus an adapter.

Weights that were published in four bits (llama.cpp's Q4_1: 16 evenly spaced values for each group of 32) and then
taught by a low-rank adapter are no longer of four bits once both are added, and eight bits would round the sum. Kept
apart, neither loses anything that counts: four bits hold the published part as it is, and the adapter is small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

BLOCK = 16
GROUP = 32
_HIGHEST = 15  # of four bits
_TOLERANCE = 2.0**-9  # of a group's largest weight: half of what eight bits may round by


@dataclass(frozen=True)
class LowRank:
    """An adapter's update of a matrix [N, K], `up @ down`.

    Attributes:
        up: float [N, rank], scaled.
        down: float [rank, K].
    """

    up: Array
    down: Array


@dataclass(frozen=True)
class Part:
    """One of the matrices that are packed as one.

    Attributes:
        weight: float32 [N, K], N a multiple of 16 where there are several; the update is in it.
        update: what an adapter added to it; None where nothing is known of one.
    """

    weight: Array
    update: LowRank | None = None


def pack_matrix(weight: Array) -> tuple[Array, Array]:
    """A weight matrix [N, K] -> bytes [blocks, K / 32, 8, 16, 4] and float16 scales [blocks, K / 32, 16].

    N is filled up to a multiple of 16 with zeros. Each group of 32 inputs of an output has its own scale, near its
    largest weight / 127; a byte is a weight in units of its scale, + 128.

    Example:
        >>> data, scales = pack_matrix(np.ones((16, 32), np.float32))
        >>> data.shape, int(data.max()), float(scales[0, 0, 0] * 127)
        ((1, 1, 8, 16, 4), 255, 1.0)
    """
    parts = _grouped(weight)
    scales = (np.abs(parts).max(-1) / 127).astype(np.float16)
    rounded = np.rint(parts / _divisor(scales)).clip(-127, 127)
    # The scale that fits these whole numbers best: weights that come from eight bits get their own one back.
    squares = np.square(rounded).sum(-1)
    best = np.divide((parts * rounded).sum(-1), squares, out=scales.astype(np.float32), where=squares > 0)
    data = (rounded + 128).astype(np.uint8)
    return _quads(data), _halves(best)


def pack_four_bits(weight: Array) -> tuple[Array, Array] | None:
    """Weights [N, K] of which every group of 32 has at most 16 evenly spaced values; None if they have others.

    Returns:
        Bytes [blocks, K / 32, 4, 16, 4], two weights each, and float16 [blocks, K / 32, 2, 16]: steps, lowest weights.

    Example:
        >>> data, halves = pack_four_bits(np.tile(np.arange(16, dtype=np.float32), (16, 2)))
        >>> data.shape, halves[0, 0, :, 0].tolist()
        ((1, 1, 4, 16, 4), [1.0, 0.0])
        >>> pack_four_bits(np.random.default_rng(0).normal(size=(16, 32)).astype(np.float32)) is None
        True
    """
    parts = _grouped(weight)
    low, high = parts.min(-1, keepdims=True), parts.max(-1, keepdims=True)
    step = (high - low) / _HIGHEST
    levels = np.rint((parts - low) / np.where(step > 0, step, 1)).clip(0, _HIGHEST)
    # The line through all 32 is surer than the one through the least and the greatest: the sum of a published
    # weight and its update was rounded to float16.
    mean, middle = levels.mean(-1, keepdims=True), parts.mean(-1, keepdims=True)
    spread = np.square(levels - mean).sum(-1, keepdims=True)
    step = np.divide(((levels - mean) * parts).sum(-1, keepdims=True), spread, out=step, where=spread > 0)
    step = step.astype(np.float16).astype(np.float32)
    low = (middle - step * mean).astype(np.float16).astype(np.float32)
    wrong = np.abs(low + step * levels - parts).max(-1, keepdims=True)
    if np.any(wrong > _TOLERANCE * np.maximum(np.abs(low), np.abs(high))):
        return None
    quads = _quads(levels.astype(np.uint8))
    halves = np.stack([_halves(step[..., 0]), _halves(low[..., 0])], axis=2)
    return np.ascontiguousarray(quads[:, :, 0::2] | quads[:, :, 1::2] << 4), halves


def packed_parts(name: str, parts: Sequence[Part], in_turns: bool = False) -> Iterator[tuple[str, Array]]:
    """Arrays of a matrix by their names: four-bit weights and the adapter where that loses nothing, else eight bits.

    Args:
        name: of the matrix; its arrays are `NAME.data`, `NAME.scales`, and of an adapter `NAME.up`, `NAME.branch`,
            `NAME.down.data`, `NAME.down.scales`.
        parts: matrices that read the same inputs.
        in_turns: 16 outputs of the first, 16 of the second and so on; otherwise one after the other.
    """
    join: Callable[[Sequence[Array]], Array] = interleave if in_turns else np.concatenate
    published = [
        one.weight if one.update is None else one.weight - one.update.up @ one.update.down for one in parts
    ]
    four = pack_four_bits(join(published))
    data, scales = pack_matrix(join([one.weight for one in parts])) if four is None else four
    yield f"{name}.data", data
    yield f"{name}.scales", scales
    ranks = [one.update.up.shape[1] for one in parts if one.update is not None]
    if four is None or not ranks:
        return
    rank = -(-max(ranks) // BLOCK) * BLOCK
    updates = [_filled(one, rank) for one in parts]
    up = join([one.up for one in updates]).reshape(-1, BLOCK, rank)
    branches = [np.full((len(one.up), 1), number, np.int32) for number, one in enumerate(updates)]
    yield f"{name}.up", np.ascontiguousarray(up.transpose(0, 2, 1), np.float16)
    yield f"{name}.branch", np.ascontiguousarray(join(branches)[::BLOCK, 0])
    down, down_scales = pack_matrix(np.concatenate([one.down for one in updates]))
    yield f"{name}.down.data", down
    yield f"{name}.down.scales", down_scales


def interleave(parts: Sequence[Array]) -> Array:
    """Rows of matrices of one shape, 16 of the first, 16 of the second and so on, in turns."""
    blocks = [one.reshape(-1, 1, BLOCK, one.shape[1]) for one in parts]
    return np.concatenate(blocks, axis=1).reshape(-1, parts[0].shape[1])


def _filled(part: Part, rank: int) -> LowRank:
    """A part's update, with zeros up to a rank."""
    outputs, inputs = part.weight.shape
    up, down = np.zeros((outputs, rank), np.float32), np.zeros((rank, inputs), np.float32)
    if part.update is not None:
        own = part.update.up.shape[1]
        up[:, :own], down[:own] = part.update.up, part.update.down
    return LowRank(up, down)


def _grouped(weight: Array) -> Array:
    """[N, K] -> float32 [blocks, 16, K / 32, 32]."""
    outputs, inputs = weight.shape
    blocks = -(-outputs // BLOCK)
    padded = np.zeros((blocks * BLOCK, inputs), np.float32)
    padded[:outputs] = weight
    return padded.reshape(blocks, BLOCK, inputs // GROUP, GROUP)


def _divisor(scales: Array) -> Array:
    return np.where(scales > 0, scales.astype(np.float32), 1)[..., None]


def _quads(data: Array) -> Array:
    """[blocks, 16, groups, 32] -> [blocks, groups, 8, 16, 4]."""
    blocks, _, groups, _ = data.shape
    return np.ascontiguousarray(data.reshape(blocks, BLOCK, groups, -1, 4).transpose(0, 2, 3, 1, 4))


def _halves(values: Array) -> Array:
    """[blocks, 16, groups] -> float16 [blocks, groups, 16]."""
    return np.ascontiguousarray(values.astype(np.float16).transpose(0, 2, 1))
