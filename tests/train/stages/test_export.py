import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from openferret.kit.eight_bits import widened
from openferret.model.closer_look import CloserLook
from openferret.model.configuration import kit_config
from openferret.model.modeling import FerretForConditionalGeneration
from openferret.train.stages.export import (
    CLOSER_FROZEN,
    FROZEN,
    adapter_tensors,
    closer_tensors,
    language_tensors,
    location_features,
    trunk_tensors,
)
from openferret.train.stages.language import LanguageModel
from openferret.train.stages.trunk import TrunkModel


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft calls it
def test_the_adapter_and_the_base_weights_make_the_whole_model():
    config = LlamaConfig(
        vocab_size=100,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    trunk = TrunkModel(64, nouns=7)
    state = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    language = LanguageModel(trunk, LlamaForCausalLM(config), rank=4)
    learned = {name for name, parameter in language.named_parameters() if parameter.requires_grad}
    stored = adapter_tensors(state, {n: t for n, t in language.state_dict().items() if n in learned})
    closer = CloserLook(trunk.vision.config, nouns=7)
    stored |= closer_tensors(closer.state_dict())
    tensors = widened(stored)
    with torch.device("meta"):
        model = FerretForConditionalGeneration(kit_config(config, region_nouns=7, closer_look=True))
    whole = model.state_dict()
    needed = {
        name
        for name in whole
        if not name.startswith(
            (*FROZEN, *CLOSER_FROZEN, "model.language_model.", "lm_head.", "model.object_pattern.")
        )
    }
    assert {name for name in tensors if name.startswith("model.")} == needed
    assert all(tensors[name].shape == whole[name].shape for name in needed)
    assert tensors["new_rows"].shape == (5 + 1000, 64)
    linears = {name for name in tensors if name.startswith("lora.")}
    assert len(linears) == 2 * 2 * 7
    closer_ones = [
        name for name in tensors if name.startswith("model.closer_look.") and tensors[name].ndim > 1
    ]
    large = [name for name in closer_ones if tensors[name].numel() >= 4096]
    assert all(stored[name].dtype == torch.int8 for name in [*linears, *large])
    assert stored["new_rows"].dtype == torch.float16
    own = {f"model.closer_look.{name}": one for name, one in closer.state_dict().items()}
    assert all(torch.allclose(own[name], tensors[name], atol=5e-3) for name in closer_ones)
    assert all(torch.allclose(state[n], t, atol=5e-3) for n, t in trunk_tensors(stored).items())
    moved = {name: tensor + 1 if "sampler" in name else tensor for name, tensor in state.items()}
    kept = widened(
        adapter_tensors(
            moved, {n: t for n, t in language.state_dict().items() if n in learned}, own_sampler=True
        )
    )
    sampled = [name for name in tensors if name.startswith("model.sampler.")]
    assert sampled
    assert all(torch.allclose(kept[name], tensors[name] + 1, atol=2e-2) for name in sampled)
    again = language_tensors(stored)
    own = language.state_dict()
    assert set(again) == {name for name in learned if not name.startswith("trunk.")}
    exact = {name for name in again if not name.startswith("location.")}
    assert all(torch.allclose(own[name], again[name], atol=2e-3) for name in exact)
    rows = location_features() @ again["location.weight"].T + again["location.bias"]
    torch.testing.assert_close(rows, tensors["new_rows"][5:].float(), rtol=0, atol=2e-3)
