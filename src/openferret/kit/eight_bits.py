"""Matrices in eight bits: what an adapter keeps of a network that need not be exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_SCALE = ".eight_bit_scale"
_MOST = 127


def quantized(name: str, weight: Tensor) -> dict[str, Tensor]:
    """A matrix or a convolution's kernel as int8, with a float32 scale for each row of outputs.

    Args:
        name: of the tensor.
        weight: float32 [outputs, ...].

    Returns:
        Two tensors, under the name and under the name with a suffix.
    """
    import torch

    rows = weight.flatten(1)
    scale = rows.abs().amax(1).clamp(min=1e-20) / _MOST
    whole = (rows / scale[:, None]).round().clamp(-_MOST, _MOST).to(torch.int8)
    return {name: whole.view(weight.shape).contiguous(), name + _SCALE: scale}


def widened(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor in float32, those of `quantized` multiplied out.

    Example:
        >>> import torch
        >>> weight = torch.tensor([[1.0, -0.5], [0.0, 2.0]])
        >>> float((widened(quantized("one", weight))["one"] - weight).abs().max()) < 0.01
        True
    """
    wide = {}
    for name, tensor in tensors.items():
        if name.endswith(_SCALE):
            continue
        value = tensor.float()
        if (scale := tensors.get(name + _SCALE)) is not None:
            value = value * scale.view(-1, *[1] * (value.ndim - 1))
        wide[name] = value
    return wide
