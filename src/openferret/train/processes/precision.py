"""Whether a device computes in bfloat16: where it does not, training takes several times as long as in float32."""

from __future__ import annotations

import torch

from openferret.train.recipes.recipe import TrainingRecipe


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 numbers itself.

    On a processor that does not (Zen 3, which has AVX2 alone), a product of 1,024 x 576 by 576 x 1,536 numbers took six
    times as long as in float32.

    Example:
        >>> isinstance(computes_in_bfloat16(torch.device("cpu")), bool)
        True
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    tell = getattr(torch.cpu, "get_capabilities", None)  # older ones have none
    if tell is None:
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return any(there and "bf16" in name for name, there in tell().items())


def in_bfloat16(recipe: TrainingRecipe, device: torch.device) -> bool:
    """Whether a run computes in bfloat16: as its recipe says, or for "auto" where the device does."""
    return recipe.precision == "bf16" or (recipe.precision == "auto" and computes_in_bfloat16(device))
