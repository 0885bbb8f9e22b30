"""What a Ferret is made of: a vision tower, a sampler, a language model, and how coordinates are written."""

from __future__ import annotations

import copy
import math
from dataclasses import fields
from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from openferret.errors import InputError
from openferret.model.sizes import FerretSizes
from openferret.model.vision import EfficientNetLiteConfig
from openferret.prompts import LOCATION_BINS, SPECIAL_TOKENS

_CLIP_L_336 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 336,
    "projection_dim": 768,
}


class FerretConfig(FerretSizes, PreTrainedConfig):
    """Configuration of `FerretForConditionalGeneration`; the defaults are the paper's 7B model.

    Args:
        vision_config: of any `transformers` vision model with a square picture, or `EfficientNetLiteConfig`.
        text_config: of any causal language model.
        coordinate_format: "text" (`[x1, y1, x2, y2]`) or "tokens" (`<loc_0>`..`<loc_999>`).
        prompt_format: "ferret_v1" (the paper's conversation) or "chatml" (Kit's).
        image_token_id: placeholder for one picture token.
        region_token_id: placeholder for one region vector.
        object_token_id: placeholder for one object token; None without object tokens.
        phrase_token_id: opens a phrase that has boxes.
        box_token_id: closes it; boxes follow.
        first_location_token_id: `<loc_0>`; the other 999 follow it.
        vision_feature_layer: hidden state of the tower that gives the patches; None: the tower's own output.
        grid_side: picture tokens are averaged to grid_side x grid_side; None keeps the tower's grid.
        sampler_points: points drawn in a region.
        sampler_anchors: points kept by each block.
        sampler_neighbors: neighbours pooled by each block.
        sampler_dim: the maps are projected to so many channels before the blocks; None: not at all.
        sampler_pool: "max" or "mean".
        sampler_align_corners: 0 and 1 are the centres of the outermost cells, as in the reference.
        transposed_sampling: reads the map at (y, x), as every released checkpoint was trained to.
        reference_regions: regions are rasterised and sampled as the reference does
            (`openferret.processing.reference`).
        normalize_regions: region vectors have one learned length.
        region_nouns: names that `openferret.model.namer` chooses among; 0 without it.
        object_tokens: proposals that follow the picture tokens; 0 for none.
        use_locator: phrases are located by a head of their own (`openferret.model.locator`).
        hull_calibration: weights of the presence's and the agreement's logit, and a constant: the logit of the
            probability that the box round a phrase is right (IoU >= 0.5).
        instance_calibration: weight of an instance's logit, and a constant: the same of one instance.
        presence_calibration: weights of the language model's "<phrase>" against "Not" after "Where is ...?" and of
            the locator's presence, both logits, and a constant: the logit that a phrase is in the picture.
        exists_calibration: the same with its "Yes" against "No" after "Is there ...?".
        seen_presence_calibration: as presence_calibration for phrases whose noun the namer knows; between the locator's
            weight and the constant stands that of the logit that the namer sees such a thing.
        seen_exists_calibration: as exists_calibration, the same.
        nouns: what the namer's outputs stand for, region_nouns of them ("" for one that the two above do not count
            for), or none.
        noun_forms: in which the namer's nouns are said (`openferret.generation.naming.Form`): a noun's number, the
            form's tokens after a space and at a text's beginning, whether it takes "an", and which share of the noun's
            phrases say it so with "a" or "an", and without. None if the namer is not to choose among nouns.
        closer_look_nouns: of these nouns the first so many are also recognised on crops round regions
            (`openferret.model.closer_look`); 0 for models that do not look closer.
        closer_look_side: side of the crops in pixels, a multiple of 32.
        closer_look_weight: of what is seen on a crop, 0..1; the rest is the namer's.
        locator_width: see `Locator`.
        locator_phrase_width: see `Locator`.

    Raises:
        InputError: values that no model could be built from.

    Example:
        >>> FerretConfig().picture_tokens
        576
    """

    model_type = "openferret_ferret"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "vision_config": SubConfigSpec(
            config_class=AutoConfig, model_type="clip_vision_model", init_kwargs=_CLIP_L_336
        ),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }

    vision_config: Any = None
    text_config: Any = None
    coordinate_format: str = "text"
    prompt_format: str = "ferret_v1"
    image_token_id: int = 32001
    region_token_id: int = 32000
    object_token_id: int | None = None
    phrase_token_id: int | None = None
    box_token_id: int | None = None
    first_location_token_id: int | None = None
    vision_feature_layer: int | None = -2
    grid_side: int | None = None
    sampler_points: int = 512
    sampler_anchors: tuple[int, ...] | list[int] = (128, 32)
    sampler_neighbors: tuple[int, ...] | list[int] = (24, 24)
    sampler_dim: int | None = None
    sampler_pool: str = "max"
    sampler_align_corners: bool = True
    transposed_sampling: bool = False
    reference_regions: bool = False
    normalize_regions: bool = False
    region_nouns: int = 0
    object_tokens: int = 0
    use_locator: bool = False
    hull_calibration: tuple[float, ...] | list[float] = (1.0, 0.0, 0.0)
    instance_calibration: tuple[float, ...] | list[float] = (1.0, 0.0)
    presence_calibration: tuple[float, ...] | list[float] = (0.5, 0.5, 0.0)
    exists_calibration: tuple[float, ...] | list[float] = (0.5, 0.5, 0.0)
    seen_presence_calibration: tuple[float, ...] | list[float] = (0.5, 0.5, 0.0, 0.0)
    seen_exists_calibration: tuple[float, ...] | list[float] = (0.5, 0.5, 0.0, 0.0)
    nouns: tuple[str, ...] | list[str] = ()
    noun_forms: tuple[Any, ...] | list[Any] = ()
    closer_look_nouns: int = 0
    closer_look_side: int = 128
    closer_look_weight: float = 0.35
    locator_width: int = 128
    locator_phrase_width: int = 192
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.tie_word_embeddings = self.tie_word_embeddings or bool(self.text_config.tie_word_embeddings)
        self.sampler_anchors = tuple(self.sampler_anchors)
        self.sampler_neighbors = tuple(self.sampler_neighbors)
        self.hull_calibration = tuple(self.hull_calibration)
        self.instance_calibration = tuple(self.instance_calibration)
        self.presence_calibration = tuple(self.presence_calibration)
        self.exists_calibration = tuple(self.exists_calibration)
        self.seen_presence_calibration = tuple(self.seen_presence_calibration)
        self.seen_exists_calibration = tuple(self.seen_exists_calibration)
        self.nouns = tuple(self.nouns)
        self.noun_forms = tuple(map(_frozen, self.noun_forms))
        self._check()

    def _check(self) -> None:
        def require(holds: bool, message: str) -> None:
            if not holds:
                raise InputError(f"This model configuration cannot be used: {message}.")

        require(self.coordinate_format in ("text", "tokens"), "coordinate_format must be 'text' or 'tokens'")
        require(
            self.prompt_format in ("chatml", "ferret_v1"), "prompt_format must be 'chatml' or 'ferret_v1'"
        )
        require(self.sampler_pool in ("max", "mean"), "sampler_pool must be 'max' or 'mean'")
        require(
            self.sampler_dim is not None or len(self.map_channels) == 1,
            f"the tower gives {len(self.map_channels)} maps, so sampler_dim must say their common width",
        )
        require(
            self.grid_side is None or 1 <= self.grid_side <= self.map_side,
            f"grid_side must lie between 1 and the tower's {self.map_side} cells, not {self.grid_side}",
        )
        require(
            0 <= self.object_tokens <= self.map_side**2,
            f"object_tokens must lie between 0 and the tower's {self.map_side**2} cells",
        )
        require(self.region_nouns >= 0, "region_nouns must be 0 or more")
        require(
            all(self._is_form(one) for one in self.noun_forms),
            "each of noun_forms must be a number below region_nouns, tokens twice, true or false, two shares in 0..1",
        )
        require(
            len(self.nouns) in (0, self.region_nouns) and all(isinstance(one, str) for one in self.nouns),
            "nouns must be a text for each of region_nouns, or none",
        )
        require(
            0 <= self.closer_look_nouns <= self.region_nouns,
            "closer_look_nouns must lie between 0 and region_nouns",
        )
        require(
            not self.closer_look_nouns or isinstance(self.vision_config, EfficientNetLiteConfig),
            "only an EfficientNetLiteConfig's sizes make a closer look",
        )
        require(
            self.closer_look_side > 0 and self.closer_look_side % 32 == 0,
            "closer_look_side must be a multiple of 32",
        )
        require(
            isinstance(self.closer_look_weight, int | float) and 0 <= self.closer_look_weight <= 1,
            "closer_look_weight must lie between 0 and 1",
        )
        require(
            not self.object_tokens or self.object_token_id is not None, "object_tokens need object_token_id"
        )
        markers = (self.phrase_token_id, self.box_token_id, self.first_location_token_id)
        require(
            self.coordinate_format == "text" or None not in markers,
            "coordinate_format 'tokens' needs phrase_token_id, box_token_id and first_location_token_id",
        )
        require(
            not self.use_locator or self.coordinate_format == "tokens", "the locator writes location tokens"
        )
        for name, length in (
            ("hull_calibration", 3),
            ("instance_calibration", 2),
            ("presence_calibration", 3),
            ("exists_calibration", 3),
            ("seen_presence_calibration", 4),
            ("seen_exists_calibration", 4),
        ):
            values = getattr(self, name)
            finite = all(isinstance(one, int | float) and math.isfinite(one) for one in values)
            require(finite and len(values) == length, f"{name} must be {length} numbers")
        ids = [getattr(self, field.name) for field in fields(self) if field.name.endswith("_token_id")]
        given = [one for one in ids if one is not None]
        require(len(set(given)) == len(given), "two special tokens share an id")
        _ = self.geometry

    def _is_form(self, given: Any) -> bool:
        if not isinstance(given, tuple) or len(given) != 6:
            return False
        number, after, first, takes_an, *shares = given
        tokens = isinstance(after, tuple) and isinstance(first, tuple) and bool(after) and bool(first)
        return (
            _below(number, self.region_nouns)
            and tokens
            and all(_below(one, self.text_config.vocab_size) for one in (*after, *first))
            and isinstance(takes_an, bool)
            and all(isinstance(one, int | float) and 0 <= one <= 1 for one in shares)
        )


def _below(number: Any, bound: int) -> bool:
    return isinstance(number, int) and 0 <= number < bound


def _frozen(given: Any) -> Any:
    """JSON's lists as tuples."""
    return tuple(map(_frozen, given)) if isinstance(given, list | tuple) else given


def kit_config(text_config: PreTrainedConfig, region_nouns: int, closer_look: bool = False) -> FerretConfig:
    """Kit's configuration round a language model.

    Args:
        text_config: the language model's own. Special tokens and location tokens are counted from its
            `vocab_size`, in the order in which `openferret.processing.processor.add_tokens` adds them.
        region_nouns: names that its namer knows; 0 for Kit v0, without a namer and a published trunk.
        closer_look: whether they are also recognised on crops.

    Returns:
        A configuration whose `text_config` (a copy) has room for them.
    """
    first = text_config.vocab_size
    text = copy.deepcopy(text_config)
    text.vocab_size = first + len(SPECIAL_TOKENS) + LOCATION_BINS
    image, objects, region, phrase, box = range(first, first + len(SPECIAL_TOKENS))
    return FerretConfig(
        vision_config=EfficientNetLiteConfig(published_trunk=region_nouns > 0),
        text_config=text,
        coordinate_format="tokens",
        prompt_format="chatml",
        image_token_id=image,
        region_token_id=region,
        object_token_id=objects,
        phrase_token_id=phrase,
        box_token_id=box,
        first_location_token_id=first + len(SPECIAL_TOKENS),
        vision_feature_layer=None,
        grid_side=8,
        sampler_points=128,
        sampler_anchors=(32, 8),
        sampler_neighbors=(8, 8),
        sampler_dim=192,
        sampler_align_corners=False,
        normalize_regions=True,
        region_nouns=region_nouns,
        closer_look_nouns=region_nouns if closer_look else 0,
        object_tokens=16,
        use_locator=True,
    )


AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
AutoConfig.register(FerretConfig.model_type, FerretConfig, exist_ok=True)
