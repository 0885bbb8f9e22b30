"""The reference's `config.json`: checked key by key, and turned into ours and back.

Nothing else of a checkpoint's configuration is used: a key that is not listed here has no effect, and code
that a checkpoint brings or names (`auto_map`) is never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import CLIPVisionConfig, LlamaConfig

from openferret.checks import shorten
from openferret.errors import WeightsError
from openferret.model.configuration import FerretConfig

_MOST = 1_000_000
_REGION_TOKEN = 32000  # the first after Vicuna's own


@dataclass(frozen=True)
class _Key:
    """What a key may hold: one of `choices`, or a number of this kind between `least` and `most`."""

    kind: type = int
    choices: tuple[object, ...] = ()
    least: float = 1
    most: float = _MOST
    required: bool = False

    @property
    def expected(self) -> str:
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        return f"{self.kind.__name__} between {self.least:g} and {self.most:g}"

    def holds(self, value: object) -> bool:
        if self.choices:
            return any(value == one and type(value) is type(one) for one in self.choices)
        kinds = (int, float) if self.kind is float else (self.kind,)
        return type(value) in kinds and self.least <= value <= self.most  # type: ignore[operator]


_SIZE = _Key(required=True)
_COUNT = _Key(most=1000, required=True)
_TOKEN = _Key(least=0)
_LANGUAGE_KEYS = {
    "hidden_size": _SIZE,
    "intermediate_size": _SIZE,
    "num_hidden_layers": _COUNT,
    "num_attention_heads": _COUNT,
    "num_key_value_heads": _Key(most=1000),
    "vocab_size": _SIZE,
    "max_position_embeddings": _Key(),
    "rms_norm_eps": _Key(float, least=0, most=1),
    "initializer_range": _Key(float, least=0, most=10),
    "hidden_act": _Key(choices=("silu",)),
    "bos_token_id": _TOKEN,
    "eos_token_id": _TOKEN,
    "pad_token_id": _Key(least=-1),
}
_FERRET_KEYS = {
    "model_type": _Key(choices=("ferret", "llava", "llama"), required=True),
    "tie_word_embeddings": _Key(choices=(False,)),
    "rope_scaling": _Key(choices=(None,)),
    "mm_hidden_size": _Key(),
    "mm_vision_select_layer": _Key(least=-1000, most=1000),
    "mm_vision_select_feature": _Key(choices=("patch",)),
    "mm_projector_type": _Key(choices=("linear",)),
    "mm_patch_merge_type": _Key(choices=("flat",)),
    "use_mm_proj": _Key(choices=(True,)),
    "mm_use_im_start_end": _Key(choices=(False,)),
    "mm_use_im_patch_token": _Key(choices=(False,)),
    "image_aspect_ratio": _Key(choices=("square_nocrop", "square", None)),
    "region_geo_sampler": _Key(choices=(True,)),
    "sampler_pooler_mode": _Key(choices=("max", "mean")),
    "im_region_fea_token": _TOKEN,
}
_VISION_KEYS = {
    "hidden_size": _SIZE,
    "intermediate_size": _SIZE,
    "num_hidden_layers": _COUNT,
    "num_attention_heads": _COUNT,
    "image_size": _SIZE,
    "patch_size": _SIZE,
    "projection_dim": _Key(),
    "num_channels": _Key(choices=(3,)),
    "layer_norm_eps": _Key(float, least=0, most=1),
    "hidden_act": _Key(choices=("quick_gelu", "gelu")),
}


def read_config(language: Mapping[str, Any], vision: Mapping[str, Any]) -> FerretConfig:
    """Our configuration of a reference checkpoint, with every compatibility switch set.

    Args:
        language: the checkpoint's `config.json`.
        vision: `config.json` of its vision tower, or of a whole CLIP model.

    Raises:
        WeightsError: a key is missing, or holds something that this package does not reproduce; both are named.
    """
    if isinstance(vision.get("vision_config"), Mapping):
        vision = vision["vision_config"]
    text = dict(language)
    if "max_sequence_length" in text:
        text.setdefault("max_position_embeddings", text["max_sequence_length"])
    _check(text, _LANGUAGE_KEYS | _FERRET_KEYS, "the checkpoint's config.json")
    _check(vision, _VISION_KEYS, "the vision tower's config.json")
    _check_together(text, "the checkpoint's config.json")
    _check_together(vision, "the vision tower's config.json")
    layer, layers = text.get("mm_vision_select_layer", -2), vision["num_hidden_layers"]
    if not -layers - 1 <= layer <= layers:
        raise WeightsError(
            f"the checkpoint's config.json cannot be used: mm_vision_select_layer is {layer}, but the vision tower "
            f"has {layers} layers"
        )
    if text.get("mm_hidden_size", vision["hidden_size"]) != vision["hidden_size"]:
        raise WeightsError(
            f"the checkpoint was made for a vision tower of {text['mm_hidden_size']} channels, but this one "
            f"has {vision['hidden_size']}; give the right one with --vision"
        )
    region = text.get("im_region_fea_token", _REGION_TOKEN)
    return FerretConfig(
        vision_config=CLIPVisionConfig(**{key: vision[key] for key in _VISION_KEYS if key in vision}),
        text_config=LlamaConfig(**{key: text[key] for key in _LANGUAGE_KEYS if key in text}),
        # A placeholder needs no row in the table of word embeddings.
        image_token_id=max(text["vocab_size"], region + 1),
        region_token_id=region,
        vision_feature_layer=text.get("mm_vision_select_layer", -2),
        sampler_pool=text.get("sampler_pooler_mode", "max"),
        transposed_sampling=True,
        sampler_align_corners=True,
        reference_regions=True,
        coordinate_format="text",
        prompt_format="ferret_v1",
    )


def write_config(config: FerretConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The reference's `config.json` of a model and of its vision tower.

    Raises:
        WeightsError: a model that the reference cannot hold; what differs is named.
    """
    for name, needed in (
        ("coordinate_format", "text"),
        ("prompt_format", "ferret_v1"),
        ("transposed_sampling", True),
        ("sampler_align_corners", True),
        ("sampler_dim", None),
        ("sampler_points", 512),
        ("sampler_anchors", (128, 32)),
        ("sampler_neighbors", (24, 24)),
        ("grid_side", None),
        ("object_tokens", 0),
        ("use_locator", False),
        ("normalize_regions", False),
    ):
        if getattr(config, name) != needed:
            raise WeightsError(
                f"the reference cannot hold this model: its {name} is {getattr(config, name)!r}, not {needed!r}"
            )
    if config.vision_config.model_type != "clip_vision_model" or config.text_config.model_type != "llama":
        raise WeightsError("the reference cannot hold this model: it needs a CLIP tower and a LLaMA")
    text, vision = config.text_config.to_dict(), config.vision_config.to_dict()
    language = {key: text[key] for key in _LANGUAGE_KEYS if text.get(key) is not None} | {
        "architectures": ["FERRETLlamaForCausalLM"],
        "model_type": "ferret",
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "mm_hidden_size": config.vision_config.hidden_size,
        "mm_vision_select_layer": config.vision_feature_layer,
        "mm_vision_select_feature": "patch",
        "use_mm_proj": True,
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "image_aspect_ratio": "square_nocrop",
        "region_geo_sampler": True,
        "sampler_pooler_mode": config.sampler_pool,
        "im_region_fea_token": config.region_token_id,
        "tie_word_embeddings": False,
        "torch_dtype": str(config.dtype or "float16").removeprefix("torch."),
        "use_cache": True,
    }
    tower = {key: vision[key] for key in _VISION_KEYS if vision.get(key) is not None}
    return language, {"architectures": ["CLIPVisionModel"], "model_type": "clip_vision_model"} | tower


def _check(values: Mapping[str, Any], schema: Mapping[str, _Key], where: str) -> None:
    for name, key in schema.items():
        if name not in values:
            if key.required:
                raise WeightsError(f"{where} has no {name}: expected {key.expected}")
        elif not key.holds(values[name]):
            raise WeightsError(
                f"{where} cannot be used: {name} is {shorten(repr(values[name]))}, expected {key.expected}"
            )


def _check_together(values: Mapping[str, Any], where: str) -> None:
    """What each key may hold depends on the others, too."""
    width, heads = values["hidden_size"], values["num_attention_heads"]
    keys, words = values.get("num_key_value_heads", heads), values.get("vocab_size", _MOST)
    tokens = [name for name in _LANGUAGE_KEYS if name.endswith("_token_id") and values.get(name, 0) >= words]
    wrong = {
        f"{heads} attention heads do not share {width} channels evenly": width % heads,
        f"{keys} key and value heads do not share {heads} attention heads evenly": heads % keys,
        f"{', '.join(tokens)} is beyond the {words} words": tokens,
        "patch_size is larger than image_size": values.get("patch_size", 0) > values.get("image_size", _MOST),
    }
    found = "; ".join(what for what, holds in wrong.items() if holds)
    if found:
        raise WeightsError(f"{where} cannot be used: {found}")
