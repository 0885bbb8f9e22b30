"""Pictures, words and regions -> arrays, whatever library the tokenizer comes from.

`FerretProcessor` is this for transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openferret import prompts
from openferret.coordinates import box_to_bins, format_bins_text, to_bin
from openferret.processing.conversation import CONVERSATIONS, Conversation
from openferret.processing.geometry import RegionGeometry, SamplerGeometry, masks_geometry, sample_points
from openferret.processing.reference import reference_mask, reference_points
from openferret.regions import Point, Region, fit_region, region_bounds, region_mask

Picture: TypeAlias = "str | Path | bytes | Image.Image | NDArray[Any]"

_AROUND_REGION = re.compile(rf"\s*{prompts.REGION_TOKEN}\s*")
_MARKER = re.compile(r"<[^<>\s]{1,40}>")
# A Unicode noncharacter, which no text holds: stands for a "<" that opens no special token.
_PLAIN_LESS_THAN = "\ufdd0"


def escape_text(text: str) -> str:
    """A user's words, so that a processor reads "<image>" or "<loc_1>" in them as ordinary letters.

    Args:
        text: anything; lone surrogates become question marks, and what stands for "<" here a replacement character.

    Example:
        >>> "<image>" in escape_text("what is <image>?")
        False
    """
    sound = text.encode("utf-8", "replace").decode("utf-8").replace(_PLAIN_LESS_THAN, "\ufffd")
    return sound.replace("<", _PLAIN_LESS_THAN)


class Preparing:
    """What a processor does for a question; the attributes are those of `FerretProcessor`."""

    tokenizer: Any
    image_size: int
    pixel_mean: Sequence[float]
    pixel_std: Sequence[float]
    picture_tokens: int
    object_tokens: int
    sampler_points: int
    sampler_anchors: Sequence[int]
    sampler_neighbors: Sequence[int]
    coordinate_format: str
    prompt_format: str
    reference_regions: bool
    seed: int

    @property
    def conversation(self) -> Conversation:
        """The fixed words of this model's conversations."""
        return CONVERSATIONS[self.prompt_format]

    @property
    def geometry(self) -> SamplerGeometry:
        """Sizes that regions are prepared with."""
        return SamplerGeometry(
            self.sampler_points, tuple(self.sampler_anchors), tuple(self.sampler_neighbors)
        )

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        closing = self._special_ids.get(self.conversation.closing)
        return frozenset(one for one in (self.tokenizer.eos_token_id, closing) if one is not None)

    @cached_property
    def _special_ids(self) -> Mapping[str, int]:
        added = self.tokenizer.added_tokens_decoder
        return {token.content: index for index, token in added.items() if token.special}

    @cached_property
    def _strips_spaces(self) -> bool:
        """Whether a region's placeholder takes the spaces around it with it, as in the reference."""
        token = self.tokenizer.added_tokens_decoder.get(self._special_ids.get(prompts.REGION_TOKEN))
        return token is not None and bool(token.lstrip and token.rstrip)

    def tokenize(self, text: str) -> list[int]:
        """Text -> token ids. Special tokens are read as such, except in what `escape_text` has been through.

        Nothing is put before or after; `<image>` and its like stay one token each.
        """
        ids: list[int] = []
        start = 0
        if self._strips_spaces:
            text = _AROUND_REGION.sub(prompts.REGION_TOKEN, text)
        for match in _MARKER.finditer(text):
            special = self._special_ids.get(match.group())
            if special is not None:
                ids += [*self._ordinary(text[start : match.start()]), special]
                start = match.end()
        return ids + self._ordinary(text[start:])

    def _ordinary(self, text: str) -> list[int]:
        if not text:
            return []
        plain = text.replace(_PLAIN_LESS_THAN, "<")
        # Not verbose: it would warn of a long text, which is cut later.
        encoded = self.tokenizer(plain, add_special_tokens=False, split_special_tokens=True, verbose=False)
        ids: list[int] = encoded["input_ids"]
        return ids

    def expand_pictures(self, text: str) -> str:
        """`<image>` -> one placeholder for each picture token and object token."""
        whole = prompts.IMAGE_TOKEN * self.picture_tokens + prompts.OBJECT_TOKEN * self.object_tokens
        return text.replace(prompts.IMAGE_TOKEN, whole)

    def pixel_values(self, images: Iterable[Image.Image]) -> NDArray[np.float32]:
        """RGB pictures -> float32 [B, 3, S, S]: squashed to a square (`square_nocrop`) and normalised."""
        side = (self.image_size, self.image_size)
        squashed = [np.asarray(one.resize(side, Image.Resampling.BICUBIC)) for one in images]
        return self.normalized(np.stack(squashed))

    def normalized(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pictures uint8 [B, S, S, 3] as a vision tower reads them: float32 [B, 3, S, S]."""
        mean, deviation = np.array(self.pixel_mean, np.float32), np.array(self.pixel_std, np.float32)
        pixels = (pictures.astype(np.float32) - mean) / deviation
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)

    def region_words(self, region: Region, width: int, height: int) -> str:
        """A region as the model reads it: two coordinates of a point or the four bounds, and its placeholder.

        Args:
            region: in pixels of the picture.
            width: of the picture in pixels.
            height: of the picture in pixels.
        """
        fitted, _ = fit_region(region, width, height)
        if isinstance(fitted, Point):
            bins: tuple[int, ...] = (to_bin(fitted.x, width), to_bin(fitted.y, height))
        else:
            bins = box_to_bins(region_bounds(fitted, width, height), width, height)
        if self.coordinate_format == "tokens":
            return prompts.region_text(bins)
        return f"{format_bins_text(bins)} {prompts.REGION_TOKEN}"

    def region_geometry(self, regions: Sequence[Region], sizes: Sequence[tuple[int, int]]) -> RegionGeometry:
        """Points, anchors and neighbours; `sizes`: (width, height) in pixels of each region's picture."""
        rasterise, draw = (
            (reference_mask, reference_points) if self.reference_regions else (region_mask, sample_points)
        )
        masks = [rasterise(region, *size) for region, size in zip(regions, sizes, strict=True)]
        return masks_geometry(masks, self.geometry, self.seed, draw)
