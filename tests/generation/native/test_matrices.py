from __future__ import annotations

import numpy as np
import pytest

from openferret.generation.native.matrices import (
    LowRank,
    Part,
    interleave,
    pack_four_bits,
    pack_matrix,
    packed_parts,
)

RANDOM = np.random.default_rng(0)


def published(outputs, inputs, seed=0):
    """Weights as four bits can hold them: 16 values in each group of 32, scales and lowest in float16."""
    draw = np.random.default_rng(seed)
    step = draw.uniform(0.01, 0.02, (outputs, inputs // 32, 1)).astype(np.float16).astype(np.float32)
    low = draw.uniform(-0.2, -0.1, step.shape).astype(np.float16).astype(np.float32)
    levels = draw.integers(0, 16, (outputs, inputs // 32, 32))
    levels[..., :2] = 0, 15  # as llama.cpp chooses the scale
    return (low + step * levels).reshape(outputs, inputs)


def adapter(outputs, inputs, rank, seed=1):
    draw = np.random.default_rng(seed)
    shapes = ((outputs, rank), (rank, inputs))
    return LowRank(*(draw.normal(0, 0.01, one).astype(np.float16).astype(np.float32) for one in shapes))


def taught(weight, update):
    """As a model folder holds the sum: in float16."""
    return (weight + update.up @ update.down).astype(np.float16).astype(np.float32)


def test_a_matrix_comes_back_within_a_step_of_each_group(unpacking):
    weight = RANDOM.normal(0, 0.1, (40, 96)).astype(np.float32)
    data, scales = pack_matrix(weight)
    assert data.shape == (3, 3, 8, 16, 4)
    back = unpacking.unpack_eight(data, scales)
    step = np.abs(weight.reshape(40, 3, 32)).max(-1, keepdims=True) / 127
    wrong = np.abs(back[:40] - weight).reshape(40, 3, 32) / step
    assert wrong.max() < 0.8
    assert np.sqrt(np.square(wrong).mean()) < 0.3  # of evenly spread rounding it is 0.289
    assert not back[40:].any()


def test_weights_of_eight_bits_come_back_as_they_were(unpacking):
    whole = RANDOM.integers(-127, 128, (32, 2, 32))
    whole[..., 0] = 127
    scale = RANDOM.uniform(0.001, 0.01, (32, 2, 1)).astype(np.float16).astype(np.float32)
    weight = (whole * scale).astype(np.float16).astype(np.float32).reshape(32, 64)
    np.testing.assert_array_equal(
        unpacking.unpack_eight(*pack_matrix(weight)), (whole * scale).reshape(32, 64)
    )


def test_groups_of_zeros_stay_zeros(unpacking):
    zeros = np.zeros((16, 32), np.float32)
    assert not unpacking.unpack_eight(*pack_matrix(zeros)).any()
    assert not unpacking.unpack_four(*pack_four_bits(zeros)).any()


def test_weights_of_four_bits_come_back_as_they_were(unpacking):
    weight = published(32, 96)
    np.testing.assert_allclose(unpacking.unpack_four(*pack_four_bits(weight)), weight, rtol=0, atol=1e-7)


def test_weights_of_more_than_four_bits_are_not_taken_for_such():
    weight = published(32, 96)
    weight[3, 40] += 0.3 * (weight[3, 40:60].max() - weight[3, 40:60].min()) / 15
    assert pack_four_bits(weight) is None


@pytest.mark.parametrize("rank", [16, 5])
def test_a_taught_matrix_is_kept_as_four_bits_and_its_adapter(rank, unpacking):
    """Twenty times nearer to what it was than in eight bits."""
    weight, update = published(48, 64), adapter(48, 64, rank)
    whole = taught(weight, update)
    arrays = dict(packed_parts("it", [Part(whole, update)]))
    assert arrays["it.data"].shape[2] == 4
    eight = dict(packed_parts("it", [Part(whole)]))
    assert set(eight) == {"it.data", "it.scales"}
    ours, other = (np.abs(unpacking.restored(one, "it") - whole).mean() for one in (arrays, eight))
    assert ours < 0.1 * other


def test_joined_matrices_keep_their_own_adapters(unpacking):
    parts = [
        Part(taught(published(32, 64, seed), update), update)
        for seed, update in enumerate((adapter(32, 64, 16, 5), adapter(32, 64, 8, 6)))
    ]
    whole = [one.weight for one in parts]
    for in_turns, expected in ((False, np.concatenate(whole)), (True, interleave(whole))):
        arrays = dict(packed_parts("pair", parts, in_turns))
        assert sorted(set(arrays["pair.branch"].tolist())) == [0, 1]
        np.testing.assert_allclose(unpacking.restored(arrays, "pair"), expected, rtol=0, atol=3e-4)


def test_an_adapter_of_other_weights_is_not_used():
    weight, update = published(32, 64), adapter(32, 64, 16)
    arrays = dict(packed_parts("it", [Part(weight, update)]))
    assert set(arrays) == {"it.data", "it.scales"}
    assert arrays["it.data"].shape[2] == 8


def test_blocks_of_two_matrices_take_turns():
    gate, up = np.zeros((32, 4)), np.ones((32, 4))
    assert interleave([gate, up])[:, 0].tolist() == [*[0] * 16, *[1] * 16] * 2
