from __future__ import annotations

import pytest
from transformers import AutoConfig, LlamaConfig

from openferret.errors import InputError
from openferret.model.configuration import FerretConfig, kit_config


def test_the_defaults_are_the_papers():
    config = FerretConfig()
    assert (config.vision_config.hidden_size, config.map_side, config.picture_tokens) == (1024, 24, 576)
    assert (config.geometry.points, config.geometry.anchors, config.geometry.neighbors) == (
        512,
        (128, 32),
        (24, 24),
    )
    assert config.text_config.hidden_size == 4096
    assert not config.transposed_sampling


def test_kits_special_tokens_follow_the_vocabulary_and_its_language_model_is_a_copy():
    text = LlamaConfig(vocab_size=100, hidden_size=64, tie_word_embeddings=True)
    config = kit_config(text, region_nouns=0)
    assert text.vocab_size == 100
    assert config.text_config.vocab_size == 1105
    assert (config.image_token_id, config.box_token_id, config.first_location_token_id) == (100, 104, 105)
    assert (config.picture_tokens, config.object_tokens, config.map_channels) == (64, 16, (48, 120, 256))
    assert config.tie_word_embeddings


@pytest.mark.parametrize(
    "make", [FerretConfig, lambda: kit_config(LlamaConfig(vocab_size=9, hidden_size=64), region_nouns=7)]
)
def test_it_is_read_back_as_it_was_written(make, tmp_path):
    config = make()
    config.save_pretrained(tmp_path)
    read = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(read, FerretConfig)
    assert read.to_diff_dict() | {"transformers_version": ""} == config.to_diff_dict() | {
        "transformers_version": ""
    }
    assert read.geometry == config.geometry


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"coordinate_format": "pixels"}, "coordinate_format"),
        ({"prompt_format": "alpaca"}, "prompt_format"),
        ({"sampler_pool": "sum"}, "sampler_pool"),
        ({"grid_side": 25}, "grid_side"),
        ({"object_tokens": 4}, "object_token_id"),
        ({"object_tokens": 10_000, "object_token_id": 5}, "object_tokens"),
        ({"coordinate_format": "tokens"}, "first_location_token_id"),
        ({"use_locator": True}, "location tokens"),
        ({"image_token_id": 32000}, "share an id"),
        ({"sampler_anchors": (600, 32)}, "grow"),
    ],
)
def test_what_no_model_could_be_built_from_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        FerretConfig(**wrong)
