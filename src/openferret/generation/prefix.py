"""A picture encoded once: its features and the language model's cache of them, shared by every question."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from transformers.cache_utils import Cache

from openferret.errors import InputError
from openferret.model.modeling import FerretForConditionalGeneration
from openferret.model.pictures import EncodedPictures
from openferret.processing.processor import FerretProcessor
from openferret.regions import Region


@dataclass(frozen=True)
class PicturePrefix:
    """Everything of a conversation up to its first question; nothing changes it.

    Attributes:
        encoded: the picture's features.
        past: the language model's cache, for one row.
        length: tokens in the cache.
        width: of the picture in pixels.
        height: of the picture in pixels.
    """

    encoded: EncodedPictures
    past: Cache
    length: int
    width: int
    height: int


def context_length(model: FerretForConditionalGeneration) -> int:
    """Tokens that the language model can hold."""
    return int(getattr(model.config.text_config, "max_position_embeddings", 2**31 - 1))


@torch.no_grad()
def encode_prefix(
    model: FerretForConditionalGeneration, processor: FerretProcessor, image: Image.Image
) -> PicturePrefix:
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
    input_ids = torch.tensor([ids], device=model.device)
    output = model(input_ids=input_ids, encoded=encoded, use_cache=True, logits_to_keep=1)
    return PicturePrefix(encoded, output.past_key_values, len(ids), *image.size)


class Continuation:
    """Sequences that grow together from one picture's prefix; the prefix itself stays as it is.

    Each step takes any number of tokens for each row. Shorter rows are padded on the left, and the padding is
    masked for good, so that every row sees exactly what it would see alone.

    Args:
        model: in evaluation mode.
        processor: the model's own.
        prefix: of the picture.
        rows: how many sequences.
    """

    def __init__(
        self,
        model: FerretForConditionalGeneration,
        processor: FerretProcessor,
        prefix: PicturePrefix,
        rows: int,
    ) -> None:
        self.model = model
        self.processor = processor
        self.prefix = prefix
        self.lengths = [prefix.length] * rows
        self._past = copy.deepcopy(prefix.past)
        self._past.batch_repeat_interleave(rows)
        self._mask = torch.ones(rows, prefix.length, dtype=torch.long, device=model.device)

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
        device, width = self._mask.device, max(len(row) for row in tokens)
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in tokens], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in tokens], device=device)
        positions = torch.tensor(self.lengths, device=device)[:, None] + mask.cumsum(1) - 1
        self._mask = torch.cat([self._mask, mask], dim=1)
        output = self.model(
            inputs_embeds=self.model.model.embed(ids, regions=self._vectors(regions)),
            attention_mask=self._mask,
            position_ids=positions * mask,
            past_key_values=self._past,
            use_cache=True,
            logits_to_keep=1,
        )
        self._past = output.past_key_values
        self.lengths = [length + len(row) for length, row in zip(self.lengths, tokens, strict=True)]
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all other rows."""
        chosen = torch.tensor(list(rows), device=self._mask.device)
        self._past.batch_select_indices(chosen)
        self._mask = self._mask[chosen]
        self.lengths = [self.lengths[row] for row in rows]

    def _vectors(self, regions: Sequence[Region]) -> Tensor | None:
        if not regions:
            return None
        size = (self.prefix.width, self.prefix.height)
        geometry = self.processor.region_geometry(regions, [size] * len(regions))
        device = self._mask.device
        return self.model.model.encode_regions(
            self.prefix.encoded,
            torch.from_numpy(geometry.points).to(device),
            [torch.from_numpy(one).to(device) for one in geometry.anchors],
            [torch.from_numpy(one).to(device) for one in geometry.neighbors],
            torch.zeros(len(regions), dtype=torch.long, device=device),
        )
