"""LoRA multiplied into the matrices is the same function as LoRA beside them."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from openferret.train.stages.merged import MergedLayers

WIDTH = 48
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # peft asks for it


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=90,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
    )
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=4, lora_alpha=8, target_modules=targets))
    for name, parameter in model.named_parameters():
        if "lora" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.base_model.model.model


@pytest.fixture
def read():
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(2, 7, WIDTH, generator=generator)
    mask = torch.ones(7, 7, dtype=torch.bool).tril().expand(2, 1, 7, 7).clone()
    mask[1, 0, 4:, 1] = False
    return embeddings, mask, torch.arange(7).expand(2, 7)


def test_hidden_states_and_gradients_are_those_of_lora_beside_the_matrices(decoder, read):
    embeddings, mask, positions = read
    weight = torch.randn(2, 7, WIDTH, generator=torch.Generator().manual_seed(2))
    beside = decoder(
        inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state
    (beside * weight).sum().backward()
    trained = {name: one for name, one in decoder.named_parameters() if one.requires_grad}
    wanted = {name: one.grad.clone() for name, one in trained.items()}
    for one in trained.values():
        one.grad = None
    merged = MergedLayers(decoder, torch.float32)(embeddings, mask, positions)
    (merged * weight).sum().backward()
    torch.testing.assert_close(merged, beside, atol=1e-5, rtol=1e-5)
    assert len(wanted) == 3 * 7 * 2
    for name, one in trained.items():
        torch.testing.assert_close(one.grad, wanted[name], atol=1e-4, rtol=1e-3, msg=name)


@torch.no_grad()
def test_what_is_read_piece_by_piece_is_read_as_a_whole(decoder, read):
    embeddings, _, positions = read
    layers = MergedLayers(decoder, torch.float32)
    causal = torch.ones(7, 7, dtype=torch.bool).tril().expand(2, 1, 7, 7)
    whole = layers(embeddings, causal, positions).repeat_interleave(2, 0)
    cache = layers.cache(2, 7)
    first = layers(embeddings[:, :4], causal[:, :, :4, :4], positions[:, :4], cache=cache)
    several, weights = cache.repeated(2), layers.weights()
    parts = [first.repeat_interleave(2, 0)]
    for place in range(4, 7):
        step, at = (one[:, place : place + 1].repeat_interleave(2, 0) for one in (embeddings, positions))
        parts.append(layers(step, None, at, weights, several))
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-5)
    assert several.length == 7
    assert cache.length == 4
