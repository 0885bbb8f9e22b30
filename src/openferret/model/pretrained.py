"""The body of Ferret as a `transformers` model: loading, saving, initialisation, and its language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, initialization
from transformers.modeling_outputs import BaseModelOutputWithPast

from openferret.errors import InputError
from openferret.model.body import FIRST_REGION_SCALE, FerretBody
from openferret.model.configuration import FerretConfig
from openferret.model.locator import Locator, PhraseEncoder
from openferret.model.pictures import BoxPattern, EncodedPictures
from openferret.model.vision import EfficientNetLiteConfig, EfficientNetLiteModel


class FerretPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation."""

    config: FerretConfig
    config_class = FerretConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ("past_key_values",)
    # Multiplies its layers' matrices with each other, so they must lie on one device.
    _no_split_modules = ("SpatialAwareSampler",)
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # What transformers cannot know: bare parameters, unsaved buffers, a layer that starts at zero.
        if isinstance(module, Locator | PhraseEncoder):
            for parameter in module.parameters(recurse=False):
                initialization.zeros_(parameter)
        elif isinstance(module, BoxPattern):
            for name, values in module.buffers_for(module.sizes).items():
                initialization.copy_(module.get_buffer(name), values)
        elif isinstance(module, FerretModel):
            if module.region_scale is not None:
                initialization.constant_(module.region_scale, FIRST_REGION_SCALE)
            if module.object_position is not None:
                initialization.zeros_(module.object_position.weight)
                initialization.zeros_(module.object_position.bias)


class FerretModel(FerretBody, FerretPreTrainedModel):
    """Pictures, regions and words -> hidden states of the language model."""

    def __init__(self, config: FerretConfig) -> None:
        super().__init__(config)
        self._build(config, AutoModel.from_config(config.vision_config))
        self.language_model = AutoModel.from_config(config.text_config)
        FerretPreTrainedModel.post_init(self)

    def get_input_embeddings(self) -> nn.Module:
        """The language model's word embeddings."""
        table: nn.Module = self.language_model.get_input_embeddings()
        return table

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the language model's word embeddings."""
        self.language_model.set_input_embeddings(value)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        encoded: EncodedPictures | None = None,
        region_points: Tensor | None = None,
        region_anchors: Sequence[Tensor] | None = None,
        region_neighbors: Sequence[Tensor] | None = None,
        region_picture: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """See `FerretForConditionalGeneration.forward`."""
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError("The model takes either input_ids or inputs_embeds: give exactly one of them.")
        if input_ids is not None:
            if encoded is None and pixel_values is not None:
                encoded = self.encode_pictures(pixel_values)
            regions = None
            if region_points is not None and len(region_points):
                if (
                    encoded is None
                    or region_anchors is None
                    or region_neighbors is None
                    or region_picture is None
                ):
                    raise InputError(
                        "Regions need pixel_values, region_anchors, region_neighbors and region_picture."
                    )
                regions = self.encode_regions(
                    encoded, region_points, region_anchors, region_neighbors, region_picture
                )
            owner = None if regions is None else region_picture
            inputs_embeds = self.embed(input_ids, encoded, regions, owner)
            if self.training and regions is None:
                inputs_embeds = inputs_embeds + self._unused_parameters().to(inputs_embeds.dtype)
        output: BaseModelOutputWithPast = self.language_model(inputs_embeds=inputs_embeds, **kwargs)
        return output

    def _unused_parameters(self) -> Tensor:
        """0, with a gradient: data-parallel training hangs if one process has no region and another has."""
        modules = [one for one in (self.sampler, self.projector, self.namer) if one is not None]
        scale = [] if self.region_scale is None else [self.region_scale]
        total = sum(one.sum() for one in [*(p for m in modules for p in m.parameters()), *scale])
        return 0 * torch.as_tensor(total)


AutoModel.register(EfficientNetLiteConfig, EfficientNetLiteModel, exist_ok=True)
AutoModel.register(FerretConfig, FerretModel, exist_ok=True)
