"""A batch: pictures with several dialogues each, as tensors.

A row is one picture's prefix followed by its dialogues. Each dialogue sees the prefix and itself only, and its
positions start where the prefix ends, exactly as a model that answers from a cached prefix sees it
(`openferret.generation.prefix`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from openferret.data.schema import Sample
from openferret.regions import Region

IGNORED = -100
PREFIX = 0
PADDING = -1


@dataclass(frozen=True)
class Dialogue:
    """One sample as the model is asked it.

    Attributes:
        sample: what it was made from.
        ids: tokens of questions and answers.
        labels: for each token the next one, where it is learned; -100 elsewhere.
        regions: that the questions point at, as they are shown, in the order of their placeholders; in pixels.
    """

    sample: Sample
    ids: tuple[int, ...]
    labels: tuple[int, ...]
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Row:
    """One picture and the dialogues that share its prefix.

    Attributes:
        image: upright RGB; None for a conversation without a picture, or where features are cached.
        size: (width, height) of the picture in pixels; (0, 0) without one.
        features: of the vision tower, for each level float [C, h, w]; None where the tower runs.
        dialogues: at least one.
    """

    image: Image.Image | None
    size: tuple[int, int]
    features: tuple[Tensor, ...] | None
    dialogues: tuple[Dialogue, ...]

    @property
    def has_picture(self) -> bool:
        """Whether it is about a picture."""
        return self.size[0] > 0


@dataclass(frozen=True)
class Batch:
    """B rows for one forward pass.

    There is always at least one picture and one region, so that every process of a distributed run computes the
    same graph: where the rows have none, the last picture or region is a blank that no placeholder stands for.

    Attributes:
        ids: int64 [B, L].
        positions: int64 [B, L].
        segments: int64 [B, L]: 0 the prefix, 1.. the dialogue, -1 padding.
        labels: int64 [B, L], already shifted: what the hidden state at that place should predict; or -100.
        pixels: float32 [P, 3, S, S]; None where `features` are given.
        features: for each level float [P, C, h, w]; None where the tower runs.
        points: float32 [R, N, 2], regions' sampled points in 0..1.
        anchors: for each block of the sampler, int64 [R, S].
        neighbors: for each block, int64 [R, S, k].
        region_picture: int64 [R], which of the P pictures each region lies on.
        blank_pictures: how many pictures at the end no placeholder stands for.
        blank_regions: how many regions at the end no placeholder stands for.
        tasks: for each row the task of each of its dialogues.
        samples: for each row the id of the sample of each of its dialogues.
        targets: what each objective prepared of the rows, by its name.
    """

    ids: Tensor
    positions: Tensor
    segments: Tensor
    labels: Tensor
    pixels: Tensor | None
    features: tuple[Tensor, ...] | None
    points: Tensor
    anchors: tuple[Tensor, ...]
    neighbors: tuple[Tensor, ...]
    region_picture: Tensor
    blank_pictures: int
    blank_regions: int
    tasks: tuple[tuple[str, ...], ...]
    samples: tuple[tuple[str, ...], ...]
    targets: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    @property
    def answers(self) -> int:
        """Dialogues."""
        return sum(map(len, self.samples))

    @property
    def tokens(self) -> int:
        """Tokens, padding not counted."""
        return int((self.segments != PADDING).sum())

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""

        def move(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.to(device, non_blocking=True)
            if isinstance(value, tuple) and value and isinstance(value[0], Tensor):
                return tuple(move(one) for one in value)
            return value

        moved = {
            name: move(value)
            for name, value in vars(self).items()
            if name not in ("tasks", "samples", "targets")
        }
        targets = {
            name: {key: move(value) for key, value in own.items()} for name, own in self.targets.items()
        }
        return replace(self, **moved, targets=targets)
