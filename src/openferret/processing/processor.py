"""FerretProcessor: pictures, words and regions -> the arrays that a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from transformers import AddedToken, BatchFeature, ProcessorMixin

from openferret import prompts
from openferret.errors import InputError
from openferret.images import load_image
from openferret.processing.conversation import CONVERSATIONS
from openferret.processing.preparing import Picture, Preparing, escape_text
from openferret.regions import Region

__all__ = ["FerretProcessor", "Picture", "PlacedRegion", "add_tokens", "escape_text"]

PlacedRegion: TypeAlias = "Region | tuple[int, Region]"

CLIP_MEAN = (122.7709383, 116.7460125, 104.09373615)
CLIP_STD = (68.5005327, 66.6321579, 70.32316305)
# Towers of other families than CLIP's, by model type: mean and deviation of a channel, 0..255.
_PIXEL_RANGES = {
    "openferret_efficientnet_lite": ((127.0,) * 3, (128.0,) * 3),
    "siglip_vision_model": ((127.5,) * 3, (127.5,) * 3),
    "dinov2": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}


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


class FerretProcessor(Preparing, ProcessorMixin):
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
    def model_input_names(self) -> list[str]:
        """Names of the arrays that `__call__` gives."""
        regional = ["region_points", "region_anchors", "region_neighbors", "region_picture"]
        return ["input_ids", "attention_mask", "pixel_values", *regional]

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
