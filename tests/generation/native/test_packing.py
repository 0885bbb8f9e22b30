from __future__ import annotations

import numpy as np
import pytest

from openferret.generation.native.packing import (
    LlamaShape,
    PackedWeights,
    interleave,
    pack_matrix,
    read_packed,
    shape_of,
    why_not,
    write_packed,
)

SHAPE = LlamaShape(64, 96, 4, 2, 16, 1, 10, 1e-5, 10_000.0)


def unpack(data, scales):
    """[blocks, groups, 8, 16, 4] and [blocks, groups, 16] -> [blocks * 16, groups * 32]."""
    weights = (data.astype(np.float32) - 128).transpose(0, 3, 1, 2, 4)
    weights = (
        weights.reshape(*weights.shape[:3], 32) * scales.astype(np.float32).transpose(0, 2, 1)[..., None]
    )
    return weights.reshape(len(data) * 16, -1)


def test_a_matrix_comes_back_within_half_a_step_of_each_group():
    weight = np.random.default_rng(0).normal(0, 0.1, (40, 96)).astype(np.float32)
    data, scales = pack_matrix(weight)
    assert data.shape == (3, 3, 8, 16, 4)
    back = unpack(data, scales)
    step = np.abs(weight.reshape(40, 3, 32)).max(-1) / 127
    assert np.all(np.abs(back[:40] - weight).reshape(40, 3, 32) <= step[..., None] * 0.51)
    assert not back[40:].any()


def test_groups_of_zeros_stay_zeros():
    data, scales = pack_matrix(np.zeros((16, 32), np.float32))
    assert not unpack(data, scales).any()


def test_blocks_of_two_matrices_take_turns():
    gate, up = np.zeros((32, 4)), np.ones((32, 4))
    assert interleave(gate, up)[:, 0].tolist() == [*[0] * 16, *[1] * 16] * 2


def test_a_file_gives_back_what_was_written(tmp_path):
    arrays = {"one": np.arange(7, dtype=np.float32), "two": np.full((3, 5), 9, np.uint8)}
    write_packed(tmp_path / "weights", PackedWeights(SHAPE, arrays))
    opened = read_packed(tmp_path / "weights")
    assert opened.shape == SHAPE
    for name, array in arrays.items():
        np.testing.assert_array_equal(opened.arrays[name], array)
        assert opened.arrays[name].ctypes.data % 64 == 0
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("damage", [lambda data: data[:-64], lambda data: b"{}\n", lambda data: b""])
def test_a_damaged_file_is_not_opened(tmp_path, damage):
    file = tmp_path / "weights"
    write_packed(file, PackedWeights(SHAPE, {"one": np.zeros(100, np.float32)}))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises((ValueError, LookupError, OSError)):
        read_packed(file)


def test_what_the_engine_does_not_know_is_named(tiny):
    known = tiny.text_config(100).to_dict()
    assert why_not(known) is None
    assert shape_of(known) == LlamaShape(64, 96, 4, 2, 16, 2, 100, known["rms_norm_eps"], 10_000.0)
    changes = (
        {"model_type": "gpt2"},
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"rope_parameters": {"rope_type": "yarn"}},
        {"head_dim": 32},
        {"intermediate_size": 100},
    )
    for change in changes:
        assert why_not(known | change)
