"""Packed matrices as ordinary ones again, the slow way."""

from __future__ import annotations

import numpy as np


def unpack_eight(data, scales):
    """[blocks, groups, 8, 16, 4] and [blocks, groups, 16] -> [blocks * 16, groups * 32]."""
    return _weights(data.astype(np.float32) - 128, scales.astype(np.float32), 0)


def unpack_four(data, halves):
    """[blocks, groups, 4, 16, 4] and [blocks, groups, 2, 16] -> [blocks * 16, groups * 32]."""
    quads = np.stack([data & 15, data >> 4], axis=3).reshape(*data.shape[:2], 8, 16, 4)
    scales, lowest = np.moveaxis(halves.astype(np.float32), 2, 0)
    return _weights(quads.astype(np.float32), scales, lowest.transpose(0, 2, 1)[..., None])


def restored(arrays, name):
    """A matrix of `packed_parts`, its low-rank part added."""
    data, scales = arrays[f"{name}.data"], arrays[f"{name}.scales"]
    if data.shape[2] == 8:
        return unpack_eight(data, scales)
    weight = unpack_four(data, scales)
    if f"{name}.up" in arrays:
        down = unpack_eight(arrays[f"{name}.down.data"], arrays[f"{name}.down.scales"])
        up, rank = arrays[f"{name}.up"].astype(np.float32), arrays[f"{name}.up"].shape[1]
        for block, branch in enumerate(arrays[f"{name}.branch"]):
            rows = slice(block * 16, block * 16 + 16)
            weight[rows] += up[block].T @ down[branch * rank : (branch + 1) * rank]
    return weight


def _weights(quads, scales, lowest):
    blocks, groups = quads.shape[:2]
    weights = quads.transpose(0, 3, 1, 2, 4).reshape(blocks, 16, groups, 32)
    return (weights * scales.transpose(0, 2, 1)[..., None] + lowest).reshape(blocks * 16, -1)
