"""Who computes the language model's next logits: transformers, or the fast engine of `generation.native`.

An engine knows no words, boxes or pictures: embeddings of new tokens go in, logits come out. What is chosen from
them, and what is forced, is decided in `decode.py`, in the same way for every engine.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers.cache_utils import Cache

    from openferret.model.body import FerretBody
    from openferret.model.modeling import FerretForConditionalGeneration


class AnyFerret(Protocol):
    """A model that can be asked: `FerretForConditionalGeneration`, or `openferret.light.LightFerret`."""

    @property
    def config(self) -> Any:
        """`FerretConfig`, or the same values without transformers."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""

    @property
    def model(self) -> FerretBody:
        """Everything but the language model."""


class GrowingRows(Protocol):
    """Sequences that grow together behind one beginning."""

    def append(self, embeddings: Sequence[Tensor]) -> Tensor:
        """Adds tokens, float [n, H] for each row, n >= 1: logits after each row's last, float32 [rows, V]."""

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all other rows."""


class LanguageEngine(Protocol):
    """Runs a language model.

    Attributes:
        name: "reference" or "fast".
        precision: of the weights, such as "float32" or "int4".
    """

    @property
    def name(self) -> str:
        """Either "reference" or "fast"."""

    @property
    def precision(self) -> str:
        """Of the weights."""

    def start(self, embeddings: Tensor) -> Any:
        """Runs a text's beginning, float [L, H]; what it gives is only read from then on."""

    def go_on(self, beginning: Any, rows: int) -> GrowingRows:
        """Rows that go on from a beginning of `start`."""


def engine_of(model: AnyFerret) -> LanguageEngine:
    """The engine that a model came with, or transformers' own way of running it."""
    engine: LanguageEngine | None = getattr(model, "engine", None)
    return ReferenceEngine(cast("FerretForConditionalGeneration", model)) if engine is None else engine


class ReferenceEngine:
    """The language model as `transformers` runs it, on any device and in any precision.

    Args:
        model: in evaluation mode.
    """

    name = "reference"

    def __init__(self, model: FerretForConditionalGeneration) -> None:
        self.model = model

    @property
    def precision(self) -> str:
        """Of the weights."""
        return str(self.model.dtype).removeprefix("torch.")

    @torch.no_grad()
    def start(self, embeddings: Tensor) -> Cache:
        """Runs a text's beginning, float [L, H]."""
        output = self.model(inputs_embeds=embeddings[None], use_cache=True, logits_to_keep=1)
        return output.past_key_values

    def go_on(self, beginning: Cache, rows: int) -> ReferenceRows:
        """Rows that go on from a copy of the beginning."""
        return ReferenceRows(self.model, beginning, rows)


class ReferenceRows:
    """Sequences in one cache of `transformers`.

    Shorter rows are padded on the left, and the padding is masked for good, so that every row sees exactly what it
    would see alone.

    Args:
        model: in evaluation mode.
        beginning: cache of one row.
        rows: how many.
    """

    def __init__(self, model: FerretForConditionalGeneration, beginning: Cache, rows: int) -> None:
        self.model = model
        self._past = copy.deepcopy(beginning)
        self._past.batch_repeat_interleave(rows)
        self._mask = torch.ones(rows, beginning.get_seq_length(), dtype=torch.long, device=model.device)

    @torch.no_grad()
    def append(self, embeddings: Sequence[Tensor]) -> Tensor:
        """Adds tokens to every row: float32 [rows, V]."""
        width = max(len(one) for one in embeddings)
        padded = embeddings[0].new_zeros(len(embeddings), width, embeddings[0].shape[-1])
        mask = self._mask.new_zeros(len(embeddings), width)
        for row, one in enumerate(embeddings):
            padded[row, width - len(one) :] = one
            mask[row, width - len(one) :] = 1
        positions = self._mask.sum(1, keepdim=True) + mask.cumsum(1) - 1
        self._mask = torch.cat([self._mask, mask], dim=1)
        output = self.model(
            inputs_embeds=padded,
            attention_mask=self._mask,
            position_ids=positions * mask,
            past_key_values=self._past,
            use_cache=True,
            logits_to_keep=1,
        )
        self._past = output.past_key_values
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all other rows."""
        chosen = torch.tensor(list(rows), device=self._mask.device)
        self._past.batch_select_indices(chosen)
        self._mask = self._mask[chosen]
