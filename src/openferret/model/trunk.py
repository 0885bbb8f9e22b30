"""The layers of EfficientNet-Lite and its neck, in PyTorch alone.

Batch normalisation is folded into the convolutions (its statistics stay frozen in training), so a block is
convolution, bias and ReLU6 only. `vision.py` makes a `transformers` model of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class TowerMaps:
    """What the tower gives.

    Attributes:
        last_hidden_state: float [B, g * g, C], the neck's map in row-major order.
        feature_maps: float [B, C_l, h_l, w_l] for each level that regions are read from.
    """

    last_hidden_state: Tensor
    feature_maps: tuple[Tensor, ...]


def map_channels(config: Any) -> tuple[int, ...]:
    """Channels of the maps that a region is read from: stride 8, 16, the published 16 and 32, the neck."""
    published = (config.stage_channels[4], config.stage_channels[6]) if config.published_trunk else ()
    return (config.stage_channels[2], config.stage_channels[4], *published, config.neck_width)


_PLANNED = 64
"""Larger batches that depthwise convolutions learn from on CUDA are multiples of this."""


def convolve(layer: nn.Conv2d, features: Tensor) -> Tensor:
    """The layer's own convolution, in fp32 where autocast would make a depthwise one train at half the speed.

    (oneDNN has no fast bf16 backward for depthwise convolutions on a CPU.) In training on CUDA, batches of many phrases
    are filled up to few different sizes, for cuDNN makes a new plan for each.
    """
    many = layer.groups > 1 and features.requires_grad and len(features) > _PLANNED
    if many and features.is_cuda and (missing := -len(features) % _PLANNED):
        filled = functional.pad(features, (0, 0, 0, 0, 0, 0, 0, missing))
        planned: Tensor = layer._conv_forward(filled, layer.weight, layer.bias)
        return planned[: len(features)]
    if layer.groups > 1 and features.requires_grad and features.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            wide: Tensor = layer._conv_forward(features.to(layer.weight.dtype), layer.weight, layer.bias)
            return wide
    result: Tensor = layer._conv_forward(features, layer.weight, layer.bias)
    return result


def clamped(features: Tensor) -> Tensor:
    """ReLU6 of what a convolution has just given: in its place where no gradient needs it, which saves a large copy."""
    return functional.relu6(features, inplace=not features.requires_grad)


class SameConvolution(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding, which the ImageNet weights were trained with.

    At stride 2 and an even input it pads one pixel less at the top and left than at the bottom and right.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        padding = (kernel - 1) // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', ceil(H / stride), ceil(W / stride)]."""
        if self.stride[0] > 1:
            kernel, stride = self.kernel_size[0], self.stride[0]
            pads = []
            for side in (features.shape[-1], features.shape[-2]):
                total = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
                pads += [total // 2, total - total // 2]
            features = functional.pad(features, pads)
        return convolve(self, features)


class InvertedResidual(nn.Module):
    """1 x 1 expansion, depthwise convolution, 1 x 1 projection; residual where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.expand = SameConvolution(inputs, middle, 1) if expansion > 1 else None
        self.depthwise = SameConvolution(middle, middle, kernel, stride, groups=middle)
        self.project = SameConvolution(middle, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H / stride, W / stride]."""
        hidden = features if self.expand is None else clamped(self.expand(features))
        projected: Tensor = self.project(clamped(self.depthwise(hidden)))
        return features + projected if self.residual else projected


STAGE_KERNELS = (3, 3, 5, 3, 5, 5, 3)
STAGE_STRIDES = (1, 2, 2, 2, 1, 2, 1)
STEM_CHANNELS = 32
_BEGINNING = 3  # stages up to the map at stride 8


class EfficientNetLiteTrunk(nn.Module):
    """The convolutional trunk; gives its maps at strides 8, 16 and 32."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.stem = SameConvolution(3, STEM_CHANNELS, 3, 2)
        stages, inputs = [], STEM_CHANNELS
        for index, (outputs, blocks) in enumerate(
            zip(config.stage_channels, config.stage_blocks, strict=True)
        ):
            expansion = 1 if index == 0 else 6
            stage = []
            for block in range(blocks):
                stride = STAGE_STRIDES[index] if block == 0 else 1
                stage.append(InvertedResidual(inputs, outputs, STAGE_KERNELS[index], stride, expansion))
                inputs = outputs
            stages.append(nn.Sequential(*stage))
        self.stages = nn.ModuleList(stages)

    def forward(self, pixel_values: Tensor, fine: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 3, S, S] in -1..1 -> maps at strides 8, 16 and 32; a map at stride 8 that is there is gone on from."""
        fine = self.begin(pixel_values) if fine is None else fine
        hidden, middle = fine, fine
        for index, stage in enumerate(self.stages[_BEGINNING:], start=_BEGINNING):
            hidden = stage(hidden)
            if index == 4:
                middle = hidden
        return fine, middle, hidden

    def begin(self, pixel_values: Tensor) -> Tensor:
        """[B, 3, S, S] in -1..1 -> the map at stride 8."""
        hidden = clamped(self.stem(pixel_values))
        for stage in self.stages[:_BEGINNING]:
            hidden = stage(hidden)
        return hidden

    def begins_like(self, other: EfficientNetLiteTrunk) -> bool:
        """Whether another trunk's map at stride 8 is the same: fine-tuning leaves the first stages as published.

        Looks at all their weights, which takes a third of a millisecond where a trunk takes a hundred.
        """
        parts = [
            (self.stem, other.stem),
            *zip(self.stages[:_BEGINNING], other.stages[:_BEGINNING], strict=True),
        ]
        return all(
            torch.equal(mine, theirs)
            for one, two in parts
            for mine, theirs in zip(one.parameters(), two.parameters(), strict=True)
        )


class ConvolutionBlock(nn.Module):
    """Depthwise 7 x 7 and a two-layer perceptron over channels, residual (as in ConvNeXt)."""

    def __init__(self, width: int, kernel: int = 7) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.project = nn.Linear(2 * width, width)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        hidden = self.norm(convolve(self.depthwise, features).permute(0, 2, 3, 1))
        hidden = self.project(functional.gelu(self.expand(hidden)))
        mixed: Tensor = features + hidden.permute(0, 3, 1, 2)
        return mixed


class AttentionBlock(nn.Module):
    """Pre-norm self-attention and a two-layer perceptron over the cells of a map."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, T, C] (mask: bool [B, T], True where there is a token) -> the same shape."""
        batch, length, width = tokens.shape
        parts = self.query_key_value(self.norm(tokens)).view(
            batch, length, 3, self.heads, width // self.heads
        )
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        visible = None if mask is None else mask[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        tokens = tokens + self.output(mixed.transpose(1, 2).reshape(batch, length, width))
        fed: Tensor = tokens + self.feed(self.feed_norm(tokens))
        return fed


def cell_centres(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """Centres of a map's cells, (x, y) in 0..1, row-major: float [rows * columns, 2]."""
    y = (torch.arange(rows, device=device, dtype=torch.float32) + 0.5) / rows
    x = (torch.arange(columns, device=device, dtype=torch.float32) + 0.5) / columns
    return torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=-1)


def fourier_features(values: Tensor, width: int) -> Tensor:
    """Sines and cosines of coordinates: [..., n] in 0..1 -> [..., n * width]; wavelengths 2 to 2 / 512."""
    frequencies = math.pi * torch.logspace(
        0, 9, width // 2, base=2.0, device=values.device, dtype=values.dtype
    )
    angles = values[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)


class Neck(nn.Module):
    """Sums the three taps at stride 16 and mixes them over the picture."""

    position_width = 32

    def __init__(self, config: Any) -> None:
        super().__init__()
        width = config.neck_width
        fine, middle, coarse = config.stage_channels[2], config.stage_channels[4], config.stage_channels[6]
        self.fine = nn.Conv2d(4 * fine, width, 1)
        self.middle = nn.Conv2d(middle, width, 1)
        self.coarse = nn.Conv2d(coarse, width, 1)
        if config.published_trunk:
            self.published_middle = nn.Conv2d(middle, width, 1)
            self.published_coarse = nn.Conv2d(coarse, width, 1)
        self.position = nn.Linear(2 * self.position_width, width)
        self.convolutions = nn.ModuleList([ConvolutionBlock(width) for _ in range(config.neck_blocks)])
        self.attentions = nn.ModuleList(
            [AttentionBlock(width, config.neck_heads) for _ in range(config.neck_blocks)]
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self, fine: Tensor, middle: Tensor, coarse: Tensor, published: tuple[Tensor, ...] = ()
    ) -> Tensor:
        """Maps at strides 8, 16, 32 (and the published ones at 16, 32) -> float [B, C, S / 16, S / 16]."""
        batch, _, rows, columns = middle.shape
        projected = self.coarse(coarse)
        if published:
            projected = projected + self.published_coarse(published[1])
        coarse_up = functional.interpolate(
            projected, size=(rows, columns), mode="bilinear", align_corners=False
        )
        if published:
            coarse_up = coarse_up + self.published_middle(published[0])
        features = self.fine(functional.pixel_unshuffle(fine, 2)) + self.middle(middle) + coarse_up
        centres = fourier_features(cell_centres(rows, columns, features.device), self.position_width)
        place = self.position(centres.to(features.dtype)).T.view(1, -1, rows, columns)
        features = features + place
        for convolution, attention in zip(self.convolutions, self.attentions, strict=True):
            features = convolution(features)
            tokens = attention(features.flatten(2).transpose(1, 2))
            features = tokens.transpose(1, 2).reshape(batch, -1, rows, columns)
        normed: Tensor = self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return normed


class EfficientNetLite(nn.Module):
    """Trunk and neck; `pixel_values` are RGB in -1..1 (`(value - 127) / 128`).

    Args:
        config: with the sizes of `openferret.model.vision.EfficientNetLiteConfig`.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.trunk = EfficientNetLiteTrunk(config)
        self.published = EfficientNetLiteTrunk(config) if config.published_trunk else None
        self.neck = Neck(config)

    def forward(self, pixel_values: Tensor, **_: Any) -> TowerMaps:
        """Args: pixel_values float [B, 3, S, S], S a multiple of 32."""
        return tower_maps(self, pixel_values)


def _begin_alike(tower: Any, device: torch.device) -> bool:
    """Whether both trunks are known to give the same map at stride 8.

    Only processors are asked: a GPU would have to be waited for, and a compiled model cannot look at numbers.
    """
    ask = device.type == "cpu" and not torch.compiler.is_compiling()
    return ask and tower.trunk.begins_like(tower.published)


def tower_maps(tower: Any, pixel_values: Tensor) -> TowerMaps:
    """Runs a tower with the parts of `EfficientNetLite`."""
    fine, middle, coarse = tower.trunk(pixel_values)
    published: tuple[Tensor, ...] = ()
    if tower.published is not None:
        with torch.no_grad():
            begun = fine.detach() if _begin_alike(tower, fine.device) else None
            published = tower.published(pixel_values, begun)[1:]
    neck = tower.neck(fine, middle, coarse, published)
    return TowerMaps(neck.flatten(2).transpose(1, 2), (fine, middle, *published, neck))
