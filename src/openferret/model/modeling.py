"""Ferret with a language-model head: what is trained, saved, loaded and asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, GenerationMixin
from transformers.cache_utils import Cache
from transformers.utils import ModelOutput

from openferret.model.configuration import FerretConfig
from openferret.model.pictures import EncodedPictures
from openferret.model.pretrained import FerretModel, FerretPreTrainedModel

__all__ = ["FerretForConditionalGeneration", "FerretModel", "FerretOutput", "FerretPreTrainedModel"]


@dataclass
class FerretOutput(ModelOutput):
    """Output of `FerretForConditionalGeneration`.

    Attributes:
        loss: float [], next-token cross entropy, where labels were given.
        logits: float [B, L, V].
        past_key_values: the language model's cache.
        hidden_states: of the language model, where asked.
        attentions: of the language model, where asked.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class FerretForConditionalGeneration(FerretPreTrainedModel, GenerationMixin):
    """Ferret with a language-model head; `generate` takes what `FerretProcessor` gives.

    Example:
        >>> from transformers import CLIPVisionConfig, LlamaConfig
        >>> sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
        >>> vision = CLIPVisionConfig(image_size=28, patch_size=14, **sizes)
        >>> text = LlamaConfig(vocab_size=50, **sizes)
        >>> config = FerretConfig(
        ...     vision_config=vision, text_config=text, image_token_id=50, region_token_id=51
        ... )
        >>> model = FerretForConditionalGeneration(config)
        >>> ids = torch.tensor([[1, 50, 50, 50, 50, 2]])
        >>> model(input_ids=ids, pixel_values=torch.zeros(1, 3, 28, 28)).logits.shape
        torch.Size([1, 6, 50])
    """

    def __init__(self, config: FerretConfig) -> None:
        super().__init__(config)
        self.model = FerretModel(config)
        text = config.text_config
        self.lm_head: nn.Module = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        # The table's name differs from language model to language model.
        table = self.get_input_embeddings().weight
        name = next(name for name, one in self.model.named_parameters() if one is table)
        self._tied_weights_keys = {"lm_head.weight": f"model.{name}"}
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The language model's word embeddings."""
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the language model's word embeddings."""
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The language-model head."""
        return self.lm_head

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replaces the language-model head."""
        self.lm_head = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        encoded: EncodedPictures | None = None,
        region_points: Tensor | None = None,
        region_anchors: Sequence[Tensor] | None = None,
        region_neighbors: Sequence[Tensor] | None = None,
        region_picture: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> FerretOutput:
        """Words, pictures and regions -> logits.

        Args:
            input_ids: int64 [B, L], with a placeholder for each picture token, object token and region.
            pixel_values: float [P, 3, S, S], in the order of their placeholders; usually one for each row.
            encoded: pictures encoded before, in place of `pixel_values`.
            region_points: float [R, N, 2], (x, y) in 0..1, in the order of their placeholders.
            region_anchors: for each block of the sampler, int64 [R, S].
            region_neighbors: for each block, int64 [R, S, k].
            region_picture: int64 [R], which of the P pictures each region lies on.
            attention_mask: int64 [B, L] (with a cache: [B, past + L]), 0 for padding.
            position_ids: int64 [B, L].
            past_key_values: the language model's cache.
            inputs_embeds: float [B, L, H], in place of everything above that is embedded.
            labels: int64 [B, L], -100 where nothing is learned.
            use_cache: whether to return the language model's cache.
            logits_to_keep: only the last so many logits are computed; 0 for all.
            kwargs: for the language model.

        Raises:
            InputError: placeholders and what they stand for differ in number.
        """
        output = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            encoded=encoded,
            region_points=region_points,
            region_anchors=region_anchors,
            region_neighbors=region_neighbors,
            region_picture=region_picture,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(output.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.text_config.vocab_size, **kwargs
            )
        return FerretOutput(loss, logits, output.past_key_values, output.hidden_states, output.attentions)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, *, is_first_iteration: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """As transformers does; pictures and regions enter with the first step only: the cache holds them."""
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, is_first_iteration=is_first_iteration, **kwargs
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            return {k: v for k, v in inputs.items() if not k.startswith(("region_", "pixel_", "encoded"))}
        return inputs

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor | None, dict[str, Any]]:
        """Repeats each row `expand_size` times, and its pictures and regions with it."""
        own = {
            name: kwargs.pop(name)
            for name in list(kwargs)
            if name.startswith("region_") or name in ("encoded", "pixel_values")
        }
        encoded, pixels, picture = (own.get(name) for name in ("encoded", "pixel_values", "region_picture"))
        seen = encoded if pixels is None else pixels
        if input_ids is not None and seen is not None and expand_size > 1:
            pictures, places, rows = self._copied_pictures(input_ids, len(seen), expand_size)
            if pixels is not None:
                own["pixel_values"] = pixels[pictures]
            if encoded is not None:
                own["encoded"] = encoded.at(pictures)
            if picture is not None:
                # Row-major order: all regions of a copy, as they stand in its text, before those of the next.
                order = rows[picture].flatten().argsort(stable=True)
                source = order // expand_size
                for name in own.keys() & {"region_points", "region_anchors", "region_neighbors"}:
                    value = own[name]
                    several = not isinstance(value, Tensor)
                    own[name] = [one[source] for one in value] if several else value[source]
                own["region_picture"] = places[picture].flatten()[order]
        ids, others = super()._expand_inputs_for_generation(
            expand_size, is_encoder_decoder, input_ids, **kwargs
        )
        return ids, others | own

    def _copied_pictures(
        self, input_ids: Tensor, pictures: int, copies: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Each row's P pictures, once more for each copy of the row, which follow each other.

        Returns:
            int64 [P * copies], which picture stands there; and [P, copies], where each copy of a picture stands, and
            in which row.
        """
        shown = (input_ids == self.config.image_token_id).sum(1) // self.config.picture_tokens
        if int(shown.sum()) != pictures:  # the model says so once it embeds them
            shown = shown.new_ones(pictures)
        numbers = torch.arange(pictures, device=input_ids.device)
        order = torch.cat([row.repeat(copies) for row in torch.split(numbers, shown.tolist())])
        row = torch.arange(len(shown), device=input_ids.device).repeat_interleave(shown)
        rows = row[:, None] * copies + torch.arange(copies, device=input_ids.device)
        return order, order.argsort(stable=True).view(pictures, copies), rows


AutoModelForImageTextToText.register(FerretConfig, FerretForConditionalGeneration, exist_ok=True)
