import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from openferret.model.configuration import kit_config
from openferret.model.modeling import FerretForConditionalGeneration
from openferret.train.export import FROZEN, adapter_tensors
from openferret.train.language import LanguageModel
from openferret.train.trunk import TrunkModel


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
    trunk = TrunkModel(64)
    state = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    language = LanguageModel(trunk, LlamaForCausalLM(config), rank=4)
    learned = {name for name, parameter in language.named_parameters() if parameter.requires_grad}
    tensors = adapter_tensors(state, {n: t for n, t in language.state_dict().items() if n in learned})
    with torch.device("meta"):
        whole = FerretForConditionalGeneration(kit_config(config)).state_dict()
    needed = {
        name
        for name in whole
        if not name.startswith((*FROZEN, "model.language_model.", "lm_head.", "model.object_pattern."))
    }
    assert {name for name in tensors if name.startswith("model.")} == needed
    assert all(tensors[name].shape == whole[name].shape for name in needed)
    assert tensors["new_rows"].shape == (5 + 1000, 64)
    linears = {name for name in tensors if name.startswith("lora.")}
    assert len(linears) == 2 * 2 * 7
