from __future__ import annotations

import numpy as np
import pytest

from openferret.generation.native.packing import (
    LlamaShape,
    PackedWeights,
    read_packed,
    shape_of,
    why_not,
    write_packed,
)

SHAPE = LlamaShape(64, 96, 4, 2, 16, 1, 10, 1e-5, 10_000.0)


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
