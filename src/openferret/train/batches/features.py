"""What a frozen vision tower sees, computed once for each picture and kept on disk as float16.

A file for each level, a picture at its place, and one byte a picture that says whether it is there: written after
the picture, so that a kill costs the pictures of one pass. Processes fill shares of their own.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from openferret.errors import InputError
from openferret.model.modeling import FerretForConditionalGeneration
from openferret.processing.processor import FerretProcessor

_AT_ONCE = 16
_HALF = 2  # bytes of a number


@dataclass(frozen=True)
class FeatureCache:
    """Features of numbered pictures.

    Args:
        folder: of the files.
        shapes: of a picture's maps, for each level (C, h, w).
        pictures: how many there are.
    """

    folder: Path
    shapes: tuple[tuple[int, ...], ...]
    pictures: int

    @property
    def bytes(self) -> int:
        """On disk, all in all."""
        return _HALF * self.pictures * sum(math.prod(shape) for shape in self.shapes)

    @cached_property
    def done(self) -> NDArray[np.uint8]:
        """uint8 [pictures], 1 where a picture's features are there."""
        return np.memmap(self.folder / "done.bin", np.uint8, "r+", shape=(self.pictures,))

    @cached_property
    def _levels(self) -> list[NDArray[np.float16]]:
        return [
            np.memmap(self.folder / f"level-{number}.bin", np.float16, "r+", shape=(self.pictures, *shape))
            for number, shape in enumerate(self.shapes)
        ]

    def make(self) -> None:
        """Makes the files where they are missing.

        Raises:
            InputError: there is no room for them.
        """
        if (self.folder / "done.bin").is_file():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if self.bytes > free:
            raise InputError(
                f"the cached features of {self.pictures} pictures take {self.bytes / 1e9:.1f} GB, but there are "
                f"{free / 1e9:.1f} GB free at {self.folder}; set data.cache to another disk, or data.cache_features "
                "to false"
            )
        for number, shape in enumerate(self.shapes):
            with (self.folder / f"level-{number}.bin").open("wb") as file:
                file.truncate(_HALF * self.pictures * math.prod(shape))
        with (self.folder / "done.bin").open("wb") as file:
            file.truncate(self.pictures)

    def read(self, picture: int) -> tuple[Tensor, ...]:
        """A picture's maps, float32 [C, h, w] for each level; InputError if they are not there."""
        if not self.done[picture]:
            raise InputError(f"{self.folder} is not whole: picture {picture} is missing; remove the folder")
        return tuple(torch.from_numpy(np.array(level[picture], np.float32)) for level in self._levels)

    def fill(
        self,
        model: FerretForConditionalGeneration,
        processor: FerretProcessor,
        wanted: Sequence[int],
        load: Callable[[int], Image.Image | None],
        tell: Callable[[int, int], None],
    ) -> None:
        """Runs the tower over pictures that are not there yet.

        Args:
            model: on its device.
            processor: the model's own.
            wanted: numbers of pictures.
            load: a picture by its number, upright RGB; None for one that cannot be had.
            tell: is told how many are done, and of how many.
        """
        missing = [number for number in wanted if not self.done[number]]
        for start in range(0, len(missing), _AT_ONCE):
            numbers = missing[start : start + _AT_ONCE]
            loaded = [(number, image) for number in numbers if (image := load(number)) is not None]
            if loaded:
                maps = tower_maps(model, processor.pixel_values([image for _, image in loaded]))
                places = [number for number, _ in loaded]
                for level, seen in zip(self._levels, maps, strict=True):
                    level[places] = seen.to(torch.float16).cpu().numpy()
                    _flush(level)
                self.done[places] = 1
                _flush(self.done)
            tell(min(start + _AT_ONCE, len(missing)), len(missing))


@torch.no_grad()
def tower_maps(model: FerretForConditionalGeneration, pixels: NDArray[np.float32]) -> tuple[Tensor, ...]:
    """The frozen tower's maps of prepared pictures, float32 [B, C, h, w] for each level."""
    given = torch.from_numpy(pixels).to(model.device)
    return tuple(one.float() for one in model.model.picture_maps(given))


def open_features(
    model: FerretForConditionalGeneration,
    processor: FerretProcessor,
    cache: Path,
    samples: str,
    pictures: int,
) -> FeatureCache:
    """The cache of a tower and a set of pictures; its files are made by `FeatureCache.make`.

    Args:
        model: with the tower.
        processor: the model's own.
        cache: folder of caches.
        samples: digest of the samples, and thereby of the pictures' numbers.
        pictures: how many there are.
    """
    blank = processor.pixel_values([Image.fromarray(np.zeros((8, 8, 3), np.uint8))])
    maps = tower_maps(model, blank)
    digest = hashlib.sha256(
        f"{samples} {pictures}".encode() + model.config.vision_config.to_json_string().encode()
    )
    for one in maps:  # what it makes of a blank tells one tower's weights from another's
        digest.update(one.cpu().numpy().tobytes())
    shapes = tuple(tuple(one.shape[1:]) for one in maps)
    return FeatureCache(cache / f"features-{digest.hexdigest()[:16]}", shapes, pictures)


def _flush(mapped: Any) -> None:
    mapped.flush()
