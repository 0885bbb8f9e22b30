"""What follows from a configuration's values; and such values without transformers."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from openferret.processing.geometry import SamplerGeometry


class FerretSizes:
    """Sizes that follow from the values of a configuration."""

    vision_config: Any
    grid_side: int | None
    sampler_points: int
    sampler_anchors: tuple[int, ...] | list[int]
    sampler_neighbors: tuple[int, ...] | list[int]

    @property
    def geometry(self) -> SamplerGeometry:
        """Sizes that regions are prepared with; InputError if they do not fit together."""
        return SamplerGeometry(
            self.sampler_points, tuple(self.sampler_anchors), tuple(self.sampler_neighbors)
        )

    @property
    def map_channels(self) -> tuple[int, ...]:
        """Channels of each map that regions are read from."""
        channels: tuple[int, ...] = getattr(
            self.vision_config, "map_channels", (self.vision_config.hidden_size,)
        )
        return channels

    @property
    def map_side(self) -> int:
        """Cells on a side of the tower's last map."""
        return int(self.vision_config.image_size) // int(getattr(self.vision_config, "patch_size", 16))

    @property
    def picture_tokens(self) -> int:
        """Picture tokens, object tokens not counted."""
        side = self.grid_side or self.map_side
        return side * side


class PlainConfig(FerretSizes, SimpleNamespace):
    """The values of a `FerretConfig`, without transformers.

    Example:
        >>> config = PlainConfig.of({"grid_side": 8, "vision_config": {"image_size": 256}})
        >>> config.picture_tokens, config.map_side
        (64, 16)
    """

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> PlainConfig:
        """From nested values, such as a `FerretConfig` gives as its dictionary."""
        return cls(**{name: _plain(value) for name, value in values.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return SimpleNamespace(**{name: _plain(one) for name, one in value.items()})
    return tuple(value) if isinstance(value, list) else value
