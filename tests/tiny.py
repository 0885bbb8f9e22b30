"""Tiny random models and a tiny tokenizer, for tests of what models are given and give back."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedTokenizerFast

from openferret.loading import LoadedModel
from openferret.model.configuration import FerretConfig, kit_config
from openferret.model.modeling import FerretForConditionalGeneration
from openferret.processing.processor import FerretProcessor, add_tokens

TEXT = """
    what is where the a an dog red ball picture in not one box how many man . , ? : ; yes no and are there
    describe or region image location of < > _ [ ] | phrase loc user assistant im_end im_start fea
"""
WORDS = TEXT.split()
SPECIAL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")


def tokenizer(coordinate_format: str) -> Any:
    """Words and single letters, after a few special tokens; a Ferret's own tokens are added."""
    letters = [chr(code) for code in range(33, 127)]
    names = list(dict.fromkeys([*SPECIAL, "\n", " ", *WORDS, *letters]))
    backend = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[a-z]+|\s|."), "isolated")
    backend.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="<|im_end|>" if coordinate_format == "tokens" else "</s>",
        pad_token="<unk>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )
    return add_tokens(made, coordinate_format)


def text_config(vocabulary: int, **changes: Any) -> LlamaConfig:
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"bos_token_id": 1, "eos_token_id": 4, "pad_token_id": 0}
    return LlamaConfig(vocab_size=vocabulary, num_key_value_heads=2, **(sizes | ids | changes))


def kit(closer_look: bool = False) -> FerretConfig:
    """Kit, but for a picture of 64 pixels and a tiny language model; without its closer look, which is as large."""
    words = len(tokenizer("tokens")) - 1005
    config = kit_config(text_config(words, tie_word_embeddings=True), 7, closer_look)
    config.vision_config.image_size = 64
    config.grid_side, config.object_tokens, config.closer_look_side = 2, 4, 32
    return config


def paper() -> FerretConfig:
    """The paper's shape: CLIP, coordinates as text, no locator."""
    words = tokenizer("text")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
    return FerretConfig(
        vision_config=CLIPVisionConfig(image_size=28, patch_size=7, **sizes),
        text_config=text_config(len(words)),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        region_token_id=words.convert_tokens_to_ids("<region_fea>"),
        sampler_points=32,
        sampler_anchors=(8, 4),
        sampler_neighbors=(4, 4),
    )


@cache
def loaded(name: str) -> LoadedModel:
    """A random model, always the same; `name` is "kit", "closer kit" or "paper"."""
    config = {"kit": kit, "closer kit": lambda: kit(closer_look=True), "paper": paper}[name]()
    torch.manual_seed(0)
    model = FerretForConditionalGeneration(config).eval()
    processor = FerretProcessor.for_config(tokenizer(config.coordinate_format), config)
    # As transformers initialises them, many layers on end would let nothing of a picture through.
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, torch.nn.Linear | torch.nn.Embedding):
                module.weight.mul_(3)
    return LoadedModel(model, processor, f"tiny-{name}")
