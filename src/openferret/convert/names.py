"""What each tensor is called in the reference's checkpoints and in ours, and how its shape differs.

The order of channels and of concatenated inputs is the same in both; only the aggregation of a sampler block
is a convolution of width one there and a matrix here.
"""

from __future__ import annotations

import re

from torch import Tensor

SAMPLER = "model.region_geo_sampler."
PROJECTOR = "model.mm_projector."
VISION = "model.vision_tower.vision_tower."

_OUR_VISION = "model.vision_tower."
_OUR_LANGUAGE = "model.language_model."
# Buffers that a model computes for itself.
_BUFFER = re.compile(r"(^|\.)(rotary_emb\.inv_freq|embeddings\.position_ids)$")
_PAIRS = (
    (r"model\.mm_projector\.(weight|bias)", r"model.projector.\1"),
    (
        r"model\.region_geo_sampler\.diff_projector_list\.(\d+)\.(weight|bias)",
        r"model.sampler.blocks.\1.difference.\2",
    ),
    (
        r"model\.region_geo_sampler\.agg_projector_list\.(\d+)\.net\.0\.(weight|bias)",
        r"model.sampler.blocks.\1.aggregate.\2",
    ),
    (
        r"model\.region_geo_sampler\.agg_projector_list\.(\d+)\.norm\.(weight|bias)",
        r"model.sampler.blocks.\1.norm.\2",
    ),
    (r"model\.region_geo_sampler\.flatten_projector\.(weight|bias)", r"model.sampler.flatten.\1"),
    (r"model\.region_geo_sampler\.dim_projector\.(weight|bias)", r"model.sampler.output.\1"),
    (
        r"model\.vision_tower\.vision_tower\.(?:vision_model\.)?((?:embeddings|pre_layrnorm|encoder|post_layernorm)\..+)",
        r"model.vision_tower.\1",
    ),
    (r"model\.((?:embed_tokens|layers|norm)\..+)", r"model.language_model.\1"),
    (r"lm_head\.weight", r"lm_head.weight"),
)
_TO_OURS = tuple((re.compile(pattern + r"\Z"), ours) for pattern, ours in _PAIRS)


def is_buffer(name: str) -> bool:
    """Whether a tensor of the reference is one that a model computes for itself.

    Example:
        >>> is_buffer("model.layers.0.self_attn.rotary_emb.inv_freq")
        True
    """
    return _BUFFER.search(name) is not None


def our_name(reference: str) -> str | None:
    """A tensor's name in our layout; None for a tensor that has no place there.

    Example:
        >>> our_name("model.region_geo_sampler.agg_projector_list.1.net.0.weight")
        'model.sampler.blocks.1.aggregate.weight'
    """
    for pattern, ours in _TO_OURS:
        if pattern.match(reference):
            return pattern.sub(ours, reference)
    return None


def reference_name(ours: str) -> str:
    """A tensor's name in the reference's layout.

    Example:
        >>> reference_name("model.language_model.norm.weight")
        'model.norm.weight'
    """
    if ours.startswith(_OUR_VISION):
        return f"{VISION}vision_model.{ours.removeprefix(_OUR_VISION)}"
    if ours.startswith(_OUR_LANGUAGE):
        return f"model.{ours.removeprefix(_OUR_LANGUAGE)}"
    if ours.startswith("model.projector."):
        return ours.replace("model.projector.", PROJECTOR)
    short = ours.removeprefix("model.sampler.")
    block = re.fullmatch(r"blocks\.(\d+)\.(difference|aggregate|norm)\.(weight|bias)", short)
    if block:
        place, part, kind = block.groups()
        inner = {
            "difference": f"diff_projector_list.{place}",
            "aggregate": f"agg_projector_list.{place}.net.0",
            "norm": f"agg_projector_list.{place}.norm",
        }[part]
        return f"{SAMPLER}{inner}.{kind}"
    for our_part, part in (("flatten.", "flatten_projector."), ("output.", "dim_projector.")):
        if short.startswith(our_part):
            return SAMPLER + short.replace(our_part, part, 1)
    return ours


def to_our_shape(ours: str, tensor: Tensor) -> Tensor:
    """A tensor of the reference in the shape it has here; the numbers stay the same."""
    return tensor.squeeze(-1) if _is_aggregation(ours) and tensor.dim() == 3 else tensor


def to_reference_shape(ours: str, tensor: Tensor) -> Tensor:
    """The way back of `to_our_shape`."""
    return tensor.unsqueeze(-1) if _is_aggregation(ours) else tensor


def _is_aggregation(ours: str) -> bool:
    return ours.endswith(".aggregate.weight")
