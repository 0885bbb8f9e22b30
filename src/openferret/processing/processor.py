"""FerretProcessor: pictures, words and regions -> the arrays that a model takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers import AddedToken, BatchFeature, ProcessorMixin

from openferret import prompts
from openferret.coordinates import box_to_bins, format_bins_text, to_bin
from openferret.errors import InputError
from openferret.images import load_image
from openferret.processing.conversation import CONVERSATIONS, Conversation
from openferret.processing.geometry import RegionGeometry, SamplerGeometry, masks_geometry, sample_points
from openferret.processing.reference import reference_mask, reference_points
from openferret.regions import Point, Region, fit_region, region_bounds, region_mask

Picture: TypeAlias = "str | Path | bytes | Image.Image | NDArray[Any]"
PlacedRegion: TypeAlias = "Region | tuple[int, Region]"

CLIP_MEAN = (122.7709383, 116.7460125, 104.09373615)
CLIP_STD = (68.5005327, 66.6321579, 70.32316305)
# Towers of other families than CLIP's, by model type: mean and deviation of a channel, 0..255.
_PIXEL_RANGES = {
    "openferret_efficientnet_lite": ((127.0,) * 3, (128.0,) * 3),
    "siglip_vision_model": ((127.5,) * 3, (127.5,) * 3),
    "dinov2": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
_AROUND_REGION = re.compile(rf"\s*{prompts.REGION_TOKEN}\s*")
_MARKER = re.compile(r"<[^<>\s]{1,40}>")
# A Unicode noncharacter, which no text holds: stands for a "<" that opens no special token.
_PLAIN_LESS_THAN = "\ufdd0"


def add_tokens(tokenizer: Any, coordinate_format: str = "tokens") -> Any:
    """Adds what a Ferret needs to a tokenizer: special tokens, and location tokens where they are used.

    Args:
        tokenizer: of the language model; changed in place.
        coordinate_format: "tokens" (Kit: 5 special and 1000 location tokens) or "text" (picture and region).

    Returns:
        The same tokenizer.
    """
    names: list[str] = [prompts.IMAGE_TOKEN, prompts.REGION_TOKEN]
    if coordinate_format == "tokens":
        names = [*prompts.SPECIAL_TOKENS, *map(prompts.location_token, range(prompts.LOCATION_BINS))]
    tokenizer.add_tokens(
        [AddedToken(name, special=True, normalized=False) for name in names], special_tokens=True
    )
    return tokenizer


def escape_text(text: str) -> str:
    """A user's words, so that `FerretProcessor` reads "<image>" or "<loc_1>" in them as ordinary letters.

    Args:
        text: anything; lone surrogates become question marks, and what stands for "<" here a replacement character.

    Example:
        >>> "<image>" in escape_text("what is <image>?")
        False
    """
    sound = text.encode("utf-8", "replace").decode("utf-8").replace(_PLAIN_LESS_THAN, "\ufffd")
    return sound.replace("<", _PLAIN_LESS_THAN)


class FerretProcessor(ProcessorMixin):
    """Prepares pictures, words and regions; saved as `processor_config.json` next to the tokenizer.

    Args:
        tokenizer: the language model's, with `add_tokens` applied.
        image_size: side in pixels of the square that pictures are squashed to.
        pixel_mean: of the channels, 0..255.
        pixel_std: of the channels, 0..255.
        picture_tokens: placeholders for a picture.
        object_tokens: placeholders for its objects, after the picture's.
        sampler_points: points drawn in a region.
        sampler_anchors: points kept by each block of the sampler.
        sampler_neighbors: neighbours pooled by each block.
        coordinate_format: "text" or "tokens".
        prompt_format: "chatml" or "ferret_v1".
        reference_regions: regions become masks and points as in the reference.
        seed: of the points drawn in regions.
        chat_template: kept for transformers.

    Raises:
        InputError: sizes that do not fit together, or an unknown format.
    """

    def __init__(
        self,
        tokenizer: Any,
        image_size: int = 336,
        pixel_mean: Sequence[float] = CLIP_MEAN,
        pixel_std: Sequence[float] = CLIP_STD,
        picture_tokens: int = 576,
        object_tokens: int = 0,
        sampler_points: int = 512,
        sampler_anchors: Sequence[int] = (128, 32),
        sampler_neighbors: Sequence[int] = (24, 24),
        coordinate_format: str = "text",
        prompt_format: str = "ferret_v1",
        reference_regions: bool = False,
        seed: int = 0,
        chat_template: str | None = None,
    ) -> None:
        if prompt_format not in CONVERSATIONS or coordinate_format not in ("text", "tokens"):
            raise InputError(f"Unknown prompt or coordinate format: {prompt_format}, {coordinate_format}.")
        self.image_size = image_size
        self.pixel_mean = list(pixel_mean)
        self.pixel_std = list(pixel_std)
        self.picture_tokens = picture_tokens
        self.object_tokens = object_tokens
        self.sampler_points = sampler_points
        self.sampler_anchors = list(sampler_anchors)
        self.sampler_neighbors = list(sampler_neighbors)
        self.coordinate_format = coordinate_format
        self.prompt_format = prompt_format
        self.reference_regions = reference_regions
        self.seed = seed
        super().__init__(tokenizer, chat_template=chat_template)

    @classmethod
    def for_config(cls, tokenizer: Any, config: Any, seed: int = 0) -> FerretProcessor:
        """The processor of a model's configuration (`FerretConfig`) and its tokenizer.

        Raises:
            InputError: a special token has another id in the tokenizer than in the configuration.
        """
        mean, std = _PIXEL_RANGES.get(config.vision_config.model_type, (CLIP_MEAN, CLIP_STD))
        for name, expected in (
            (prompts.IMAGE_TOKEN, config.image_token_id),
            (prompts.REGION_TOKEN, config.region_token_id),
            (prompts.location_token(0), config.first_location_token_id),
        ):
            found = tokenizer.convert_tokens_to_ids(name)
            if expected is not None and found != expected:
                raise InputError(
                    f"The tokenizer knows {name} as {found}, but the model as {expected}; "
                    "add_tokens and the configuration must use the same order."
                )
        return cls(
            tokenizer,
            image_size=config.vision_config.image_size,
            pixel_mean=mean,
            pixel_std=std,
            picture_tokens=config.picture_tokens,
            object_tokens=config.object_tokens,
            sampler_points=config.sampler_points,
            sampler_anchors=config.sampler_anchors,
            sampler_neighbors=config.sampler_neighbors,
            coordinate_format=config.coordinate_format,
            prompt_format=config.prompt_format,
            reference_regions=config.reference_regions,
            seed=seed,
        )

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

    @property
    def model_input_names(self) -> list[str]:
        """Names of the arrays that `__call__` gives."""
        regional = ["region_points", "region_anchors", "region_neighbors", "region_picture"]
        return ["input_ids", "attention_mask", "pixel_values", *regional]

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
        squashed = [np.asarray(one.resize(side, Image.Resampling.BICUBIC), np.float32) for one in images]
        pixels = (np.stack(squashed) - np.array(self.pixel_mean, np.float32)) / np.array(
            self.pixel_std, np.float32
        )
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

    def __call__(
        self,
        images: Picture | Sequence[Picture] | None = None,
        text: str | Sequence[str] = "",
        regions: Sequence[PlacedRegion] | Sequence[Sequence[PlacedRegion]] | None = None,
        *,
        padding_side: str = "left",
        return_tensors: str | None = "pt",
        **_: Any,
    ) -> BatchFeature:
        """Prepares a batch for `FerretForConditionalGeneration`.

        Args:
            images: pictures in the order of the `<image>` markers of all texts.
            text: prompts; `<image>` stands for a picture or one more view of it, `<region_fea>` for a region.
            regions: for each text its regions, in order and in pixels; `(k, region)` lies on the text's
                picture k, a region alone on picture 0. A single text may come without the outer list.
            padding_side: "left" to generate, "right" to train.
            return_tensors: "pt" for tensors, "np" for arrays.

        Returns:
            input_ids, attention_mask: int64 [B, L]; pixel_values: float32 [P, 3, S, S]; with regions
            region_points: float32 [R, N, 2], region_anchors and region_neighbors: a list of int64 arrays, one
            for each block, and region_picture: int64 [R].

        Raises:
            InputError: other numbers of pictures or regions than of placeholders, or an unusable region.

        Example:
            >>> processor(image, "<image> What is <region_fea>?", [Point(10, 20)])  # doctest: +SKIP
        """
        texts = [text] if isinstance(text, str) else list(text)
        pictures = [load_image(one) for one in _listed(images)]
        placed = _rows_of_regions(regions, texts, isinstance(text, str))
        owners = _owners(texts, placed, len(pictures))
        rows = [self.tokenize(self.expand_pictures(one)) for one in texts]
        data: dict[str, Any] = self._padded(rows, padding_side)
        if pictures:
            data["pixel_values"] = self.pixel_values(pictures)
        if owners:
            shapes = [region for own in placed for _index, region in own]
            geometry = self.region_geometry(shapes, [pictures[owner].size for owner in owners])
            data["region_points"] = geometry.points
            data["region_anchors"] = list(geometry.anchors)
            data["region_neighbors"] = list(geometry.neighbors)
            data["region_picture"] = np.array(owners, np.int64)
        return BatchFeature(_as_tensors(data) if return_tensors == "pt" else data)

    def _padded(self, rows: Sequence[Sequence[int]], side: str) -> dict[str, NDArray[np.int64]]:
        pad = self.tokenizer.pad_token_id
        length = max(len(row) for row in rows)
        ids = np.full((len(rows), length), 0 if pad is None else pad, np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            place = slice(length - len(row), None) if side == "left" else slice(None, len(row))
            ids[index, place], mask[index, place] = row, 1
        return {"input_ids": ids, "attention_mask": mask}


def _listed(images: Picture | Sequence[Picture] | None) -> Sequence[Picture]:
    if images is None:
        return []
    if isinstance(images, list | tuple):
        return images
    return [images]  # type: ignore[list-item]


def _rows_of_regions(regions: Any, texts: Sequence[str], single: bool) -> list[list[tuple[int, Region]]]:
    """What a caller gives for regions -> for each text its (picture, region) pairs."""
    rows = [[] for _ in texts] if regions is None else list(regions)
    if single and regions is not None and not (len(rows) == 1 and isinstance(rows[0], list)):
        rows = [rows]
    if len(rows) != len(texts):
        raise InputError(f"There are {len(texts)} texts, but regions for {len(rows)}: give a list for each.")
    return [[one if isinstance(one, tuple) else (0, one) for one in row] for row in rows]


def _owners(texts: Sequence[str], placed: list[list[tuple[int, Region]]], pictures: int) -> list[int]:
    """The picture, counted over all texts, that each region lies on; InputError if the numbers do not fit."""
    counts = [text.count(prompts.IMAGE_TOKEN) for text in texts]
    if sum(counts) != pictures:
        raise InputError(
            f"The text has {sum(counts)} {prompts.IMAGE_TOKEN} markers, but there are {pictures} pictures."
        )
    owners: list[int] = []
    for row, (text, own) in enumerate(zip(texts, placed, strict=True)):
        markers = text.count(prompts.REGION_TOKEN)
        if markers != len(own):
            raise InputError(
                f"Text {row} has {markers} {prompts.REGION_TOKEN} placeholders, but {len(own)} regions."
            )
        if any(not 0 <= index < counts[row] for index, _region in own):
            raise InputError(f"A region of text {row} lies on a picture that the text does not show.")
        owners += [sum(counts[:row]) + index for index, _region in own]
    return owners


def _as_tensors(value: Any) -> Any:
    """Arrays, also in lists and dicts -> tensors that share their memory."""
    import torch

    if isinstance(value, dict):
        return {name: _as_tensors(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_as_tensors(one) for one in value]
    return torch.from_numpy(value)
