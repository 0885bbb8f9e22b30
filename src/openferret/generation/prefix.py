"""A picture encoded once: its features and the language model's cache of them, shared by every question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from openferret.errors import InputError
from openferret.generation.engines import AnyFerret, engine_of
from openferret.model.pictures import EncodedPictures
from openferret.processing.closer import closer_crops
from openferret.processing.preparing import Preparing
from openferret.regions import Region


@dataclass(frozen=True)
class PicturePrefix:
    """Everything of a conversation up to its first question; nothing changes it.

    Attributes:
        encoded: the picture's features.
        past: the language model's cache, for one row; its engine's own.
        length: tokens in the cache.
        width: of the picture in pixels.
        height: of the picture in pixels.
        image: the picture itself, upright RGB, for models that look closer at regions; None for others.
    """

    encoded: EncodedPictures
    past: Any
    length: int
    width: int
    height: int
    image: Image.Image | None = None


def context_length(model: AnyFerret) -> int:
    """Tokens that the language model can hold."""
    return int(getattr(model.config.text_config, "max_position_embeddings", 2**31 - 1))


@torch.no_grad()
def encode_prefix(model: AnyFerret, processor: Preparing, image: Image.Image) -> PicturePrefix:
    """Runs the vision tower and the language model over a picture.

    Args:
        model: in evaluation mode.
        processor: the model's own.
        image: upright RGB.

    Raises:
        InputError: the language model's context is too short for a picture.
    """
    ids = processor.tokenize(processor.expand_pictures(processor.conversation.opening))
    if len(ids) >= context_length(model):
        raise InputError(
            f"A picture takes {len(ids)} tokens, but this language model holds {context_length(model)}; "
            "use a model with a longer context."
        )
    pixels = torch.from_numpy(processor.pixel_values([image])).to(model.device)
    encoded = model.model.encode_pictures(pixels)
    embeddings = model.model.embed(torch.tensor([ids], device=model.device), encoded)[0]
    kept = image if model.config.closer_look_nouns else None
    return PicturePrefix(encoded, engine_of(model).start(embeddings), len(ids), *image.size, kept)


class Continuation:
    """Sequences that grow together from one picture's prefix; the prefix itself stays as it is.

    Each step takes any number of tokens for each row, and every row sees exactly what it would see alone.

    Args:
        model: in evaluation mode.
        processor: the model's own.
        prefix: of the picture.
        rows: how many sequences.
    """

    def __init__(
        self,
        model: AnyFerret,
        processor: Preparing,
        prefix: PicturePrefix,
        rows: int,
    ) -> None:
        self.model = model
        self.processor = processor
        self.prefix = prefix
        self.lengths = [prefix.length] * rows
        self._growing = engine_of(model).go_on(prefix.past, rows)

    @property
    def room(self) -> int:
        """Tokens that still fit into the longest row."""
        return context_length(self.model) - max(self.lengths)

    @torch.no_grad()
    def append(self, tokens: Sequence[Sequence[int]], regions: Sequence[Region] = ()) -> Tensor:
        """Adds tokens to every row, at least one to each.

        Args:
            tokens: for each row.
            regions: in the order of their placeholders in all rows, in pixels of the picture.

        Returns:
            float32 [rows, V], logits after each row's last token.
        """
        flat = torch.tensor([[token for row in tokens for token in row]], device=self.model.device)
        vectors = self.model.model.embed(flat, regions=self._vectors(regions))[0]
        logits = self._growing.append(torch.split(vectors, [len(row) for row in tokens]))
        self.lengths = [length + len(row) for length, row in zip(self.lengths, tokens, strict=True)]
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all other rows."""
        self._growing.keep(rows)
        self.lengths = [self.lengths[row] for row in rows]

    @torch.no_grad()
    def nouns(self, regions: Sequence[Region]) -> Tensor:
        """What the model's namer would call regions, in pixels of the picture: probabilities, float [R, N]."""
        points, anchors, neighbors = self._geometry(regions)
        picture = torch.zeros(len(regions), dtype=torch.long, device=self.model.device)
        named = self.model.model.name_regions(self.prefix.encoded, points, anchors, neighbors, picture)
        if self.prefix.image is None:
            return named
        crops, bounds = closer_crops(self.prefix.image, regions, self.model.config.closer_look_side)
        pixels = torch.from_numpy(self.processor.normalized(crops)).to(named.device)
        return self.model.model.look_closer(named, pixels, torch.from_numpy(bounds).to(named.device))

    def _vectors(self, regions: Sequence[Region]) -> Tensor | None:
        if not regions:
            return None
        points, anchors, neighbors = self._geometry(regions)
        picture = torch.zeros(len(regions), dtype=torch.long, device=self.model.device)
        return self.model.model.encode_regions(self.prefix.encoded, points, anchors, neighbors, picture)

    def _geometry(self, regions: Sequence[Region]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        size = (self.prefix.width, self.prefix.height)
        geometry = self.processor.region_geometry(regions, [size] * len(regions))
        device = self.model.device
        return (
            torch.from_numpy(geometry.points).to(device),
            [torch.from_numpy(one).to(device) for one in geometry.anchors],
            [torch.from_numpy(one).to(device) for one in geometry.neighbors],
        )
