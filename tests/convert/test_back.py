"""The way back: what came from the reference is what it gets, bit for bit."""

import json

import pytest
import torch

from openferret.convert import Sources, convert_apple, convert_to_apple
from openferret.convert.checkpoint import find_weights, list_tensors
from openferret.errors import InputError, WeightsError
from openferret.model.modeling import FerretForConditionalGeneration


def state(folder):
    return {name: one.read() for name, one in list_tensors(find_weights(folder)).items()}


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_deltas_come_back_as_the_merged_checkpoint(original, tmp_path):
    ours = convert_apple(Sources(original.delta, original.base, original.vision), tmp_path / "ours")
    back = convert_to_apple(ours, tmp_path / "back", shard_bytes=60_000)
    assert_equal(state(back), original.merged)
    assert_equal(state(back / "vision_tower"), original.tower)
    assert (back / "config.json").read_bytes() == (original.delta / "config.json").read_bytes()
    assert (back / "tokenizer.json").read_bytes() == (original.delta / "tokenizer.json").read_bytes()
    assert convert_to_apple(ours, back, shard_bytes=60_000) == back
    with pytest.raises(InputError, match="exists already"):
        convert_to_apple(ours, back)
    # And it can be read again, the vision tower in it included.
    again = convert_apple(Sources(back), tmp_path / "again")
    assert_equal(state(again), state(ours))


def test_a_model_that_was_trained_here_gets_the_reference_configuration(original, tmp_path):
    ours = convert_apple(Sources(original.delta, original.base, original.vision), tmp_path / "ours")
    FerretForConditionalGeneration.from_pretrained(ours).save_pretrained(tmp_path / "trained")
    back = convert_to_apple(tmp_path / "trained", tmp_path / "back")
    config = json.loads((back / "config.json").read_text(encoding="utf-8"))
    kept = json.loads((original.delta / "config.json").read_text(encoding="utf-8"))
    for key in ("hidden_size", "vocab_size", "mm_hidden_size", "im_region_fea_token", "region_geo_sampler"):
        assert config[key] == kept[key]
    assert_equal(state(back), original.merged)


def test_a_model_of_another_kind_is_refused(original, tmp_path):
    ours = convert_apple(Sources(original.delta, original.base, original.vision), tmp_path / "ours")
    config = json.loads((ours / "config.json").read_text(encoding="utf-8"))
    (ours / "config.json").write_text(json.dumps(config | {"transposed_sampling": False}), encoding="utf-8")
    with pytest.raises(WeightsError, match="its transposed_sampling is False, not True"):
        convert_to_apple(ours, tmp_path / "back")
