from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig

from openferret.errors import InputError
from openferret.model.closer_look import CloserLook, agreed_nouns
from openferret.model.configuration import FerretConfig, kit_config
from openferret.model.vision import EfficientNetLiteConfig


def test_crops_of_any_side_get_a_logit_for_each_noun():
    model = CloserLook(EfficientNetLiteConfig(), nouns=5).eval()
    bounds = torch.tensor([[0.1, 0.1, 0.3, 0.4], [0.0, 0.0, 1.0, 1.0]])
    with torch.no_grad():
        for side in (32, 64):
            logits = model(torch.zeros(2, 3, side, side), bounds)
            assert logits.shape == (2, 5)
            assert logits.dtype == torch.float32
            assert not torch.equal(logits[0], logits[1])  # where a region lies is read too


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_looks_in_half_precision_too(dtype):
    torch.manual_seed(0)
    model = CloserLook(EfficientNetLiteConfig(), nouns=5).eval()
    pixels, bounds = torch.rand(1, 3, 32, 32), torch.tensor([[0.1, 0.1, 0.3, 0.4]])
    with torch.no_grad():
        expected = model(pixels, bounds)
        logits = model.to(dtype)(pixels.to(dtype), bounds)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.02)


@given(st.integers(1, 6), st.floats(0, 1), st.integers(0, 2**16))
def test_what_both_think_is_a_probability_and_leaves_further_nouns_as_they_were(known, weight, seed):
    generator = torch.Generator().manual_seed(seed)
    named = torch.randn(3, 6, generator=generator).softmax(-1)
    closer = torch.randn(3, known, generator=generator).softmax(-1)
    both = agreed_nouns(named, closer, weight)
    assert torch.allclose(both.sum(-1), torch.ones(3), atol=1e-5)
    assert torch.equal(both[:, known:], named[:, known:])


def test_without_weight_the_namer_decides_alone():
    named, closer = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.0, 0.0, 1.0]])
    assert torch.allclose(agreed_nouns(named, closer, 0.0), named, atol=1e-5)
    assert agreed_nouns(named, closer, 1.0).argmax() == 2
    assert agreed_nouns(named, torch.tensor([[0.1, 0.8, 0.1]]), 0.5).argmax() == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"closer_look_nouns": 8}, "closer_look_nouns"),
        ({"closer_look_nouns": -1}, "closer_look_nouns"),
        ({"closer_look_side": 100}, "multiple of 32"),
        ({"closer_look_side": 0}, "multiple of 32"),
        ({"closer_look_weight": 1.5}, "closer_look_weight"),
        ({"closer_look_weight": float("nan")}, "closer_look_weight"),
    ],
)
def test_a_closer_look_that_cannot_be_is_refused(wrong, message):
    values = kit_config(LlamaConfig(vocab_size=9, hidden_size=64), region_nouns=7).to_dict()
    with pytest.raises(InputError, match=message):
        FerretConfig(**values | wrong)


def test_only_a_trunk_of_known_sizes_looks_closer():
    with pytest.raises(InputError, match="EfficientNetLiteConfig"):
        FerretConfig(region_nouns=7, closer_look_nouns=7)
