from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openferret.kit.eight_bits import quantized, widened


@given(st.floats(1e-5, 100), st.integers(0, 2**16))
def test_a_matrix_comes_back_within_half_a_step_of_its_rows(size, seed):
    weight = size * torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
    kept = quantized("a.weight", weight)
    assert kept["a.weight"].dtype == torch.int8
    again = widened(kept)
    assert list(again) == ["a.weight"]
    step = weight.flatten(1).abs().amax(1) / 127
    error = (again["a.weight"] - weight).flatten(1).abs().amax(1)
    assert bool((error <= 0.6 * step + 1e-6).all())


def test_a_row_of_zeros_stays_so_and_other_tensors_are_only_widened():
    kept = quantized("a", torch.zeros(2, 3)) | {"b": torch.ones(4, dtype=torch.float16)}
    again = widened(kept)
    assert again["a"].tolist() == [[0.0] * 3] * 2
    assert again["b"].dtype == torch.float32


@pytest.mark.parametrize("shape", [(1, 1), (3, 1280), (4, 1, 5, 5)])
def test_shapes_are_kept(shape):
    assert widened(quantized("a", torch.randn(shape)))["a"].shape == shape
