"""EfficientNet-Lite with a small neck as a `transformers` model: the vision tower of Kit.

Any `transformers` vision model can take its place; this one is here because its ImageNet weights come from a
package index. Its layers are in `trunk.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from openferret.model.trunk import (
    AttentionBlock,
    ConvolutionBlock,
    EfficientNetLiteTrunk,
    InvertedResidual,
    Neck,
    SameConvolution,
    cell_centres,
    convolve,
    fourier_features,
    map_channels,
    tower_maps,
)

__all__ = [
    "AttentionBlock",
    "ConvolutionBlock",
    "EfficientNetLiteConfig",
    "EfficientNetLiteModel",
    "EfficientNetLiteTrunk",
    "InvertedResidual",
    "Neck",
    "SameConvolution",
    "VisionOutput",
    "cell_centres",
    "convolve",
    "fold_batch_norm",
    "folded_head",
    "fourier_features",
]

BATCH_NORM_EPSILON = 1e-3


class EfficientNetLiteConfig(PreTrainedConfig):
    """Sizes of the trunk (the defaults are EfficientNet-Lite2's) and of the neck.

    Args:
        image_size: side of the square picture, in pixels; a multiple of 32.
        stage_channels: output channels of the seven stages.
        stage_blocks: inverted residual blocks in each stage.
        neck_width: channels of the neck's map, at stride 16.
        neck_blocks: pairs of one convolution and one attention block.
        neck_heads: attention heads of the neck.
        published_trunk: a second trunk keeps the published weights beside the one that is trained, so that
            what ImageNet knows and the training pictures do not show is not forgotten.
    """

    model_type = "openferret_efficientnet_lite"

    def __init__(
        self,
        image_size: int = 256,
        stage_channels: tuple[int, ...] = (16, 24, 48, 88, 120, 208, 352),
        stage_blocks: tuple[int, ...] = (1, 3, 3, 4, 4, 5, 1),
        neck_width: int = 256,
        neck_blocks: int = 2,
        neck_heads: int = 8,
        published_trunk: bool = False,
        **kwargs: Any,
    ) -> None:
        self.image_size = image_size
        self.stage_channels = tuple(stage_channels)
        self.stage_blocks = tuple(stage_blocks)
        self.neck_width = neck_width
        self.neck_blocks = neck_blocks
        self.neck_heads = neck_heads
        self.published_trunk = published_trunk
        self.hidden_size = neck_width
        super().__init__(**kwargs)

    @property
    def map_channels(self) -> tuple[int, ...]:
        """Channels of the maps that a region is read from: stride 8, 16, the published 16 and 32, the neck."""
        return map_channels(self)


@dataclass
class VisionOutput(ModelOutput):
    """What a tower gives.

    Attributes:
        last_hidden_state: float [B, g * g, C], the neck's map in row-major order.
        feature_maps: float [B, C_l, h_l, w_l] for each level that regions are read from.
    """

    last_hidden_state: Tensor | None = None
    feature_maps: tuple[Tensor, ...] | None = None


class EfficientNetLiteModel(PreTrainedModel):
    """Trunk and neck; `pixel_values` are RGB in -1..1 (`(value - 127) / 128`)."""

    config: EfficientNetLiteConfig
    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"
    base_model_prefix = "vision"

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.trunk = EfficientNetLiteTrunk(config)
        self.published = EfficientNetLiteTrunk(config) if config.published_trunk else None
        self.neck = Neck(config)
        self.post_init()

    def forward(self, pixel_values: Tensor, **_: Any) -> VisionOutput:
        """Args: pixel_values float [B, 3, S, S], S a multiple of 32."""
        maps = tower_maps(self, pixel_values)
        return VisionOutput(last_hidden_state=maps.last_hidden_state, feature_maps=maps.feature_maps)


def fold_batch_norm(published: Mapping[str, Tensor], config: EfficientNetLiteConfig) -> dict[str, Tensor]:
    """Turns the published ImageNet state (EfficientNet-PyTorch names) into the trunk's, batch norm folded in.

    Args:
        published: names such as `_conv_stem.weight` and `_blocks.0._bn1.running_mean`.
        config: gives the number of blocks in each stage.

    Returns:
        A state dict for `EfficientNetLiteTrunk`.
    """
    state: dict[str, Tensor] = {}
    state["stem.weight"], state["stem.bias"] = _fold(published, "_conv_stem", "_bn0")
    index = 0
    for stage, blocks in enumerate(config.stage_blocks):
        for block in range(blocks):
            source, target = f"_blocks.{index}", f"stages.{stage}.{block}"
            pairs = [("depthwise", "_depthwise_conv", "_bn1"), ("project", "_project_conv", "_bn2")]
            if stage > 0:
                pairs.insert(0, ("expand", "_expand_conv", "_bn0"))
            for name, convolution, norm in pairs:
                weight, bias = _fold(published, f"{source}.{convolution}", f"{source}.{norm}")
                state[f"{target}.{name}.weight"], state[f"{target}.{name}.bias"] = weight, bias
            index += 1
    return state


def folded_head(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The 1 x 1 convolution after the last stage, batch norm folded in: `weight` [1280, C, 1, 1] and `bias` [1280]."""
    weight, bias = _fold(published, "_conv_head", "_bn1")
    return {"weight": weight, "bias": bias}


def _fold(published: Mapping[str, Tensor], convolution: str, norm: str) -> tuple[Tensor, Tensor]:
    scale = published[f"{norm}.weight"] / (published[f"{norm}.running_var"] + BATCH_NORM_EPSILON).sqrt()
    weight = published[f"{convolution}.weight"] * scale[:, None, None, None]
    return weight, published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * scale
