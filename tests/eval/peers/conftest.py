"""Folders as transformers saves them: the families' own classes, random weights, a vocabulary of letters."""

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    Kosmos2Config,
    Kosmos2ForConditionalGeneration,
    Kosmos2Processor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)


def letters(*more, **special):
    names = ["<s>", "<pad>", "</s>", "<unk>", *more, *(chr(code) for code in range(32, 127)), "\n"]
    vocabulary = {name: index for index, name in enumerate(dict.fromkeys(names))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    tokens = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **tokens | special
    )


def save(folder, config, kind, *further):
    torch.manual_seed(0)
    kind(config).save_pretrained(folder)
    for one in further:
        one.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def kosmos_folder(tmp_path_factory):
    words = letters(*(f"<image {index}>" for index in range(64)))
    pictures = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = Kosmos2Processor(pictures, words)
    sizes = {"ffn_dim": 32, "layers": 1, "attention_heads": 2, "embed_dim": 16}
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Kosmos2Config(
        text_config={"vocab_size": len(words), **sizes},
        vision_config={"image_size": 28, "patch_size": 14, **vision},
    )
    folder = tmp_path_factory.mktemp("kosmos")
    return save(folder, config, Kosmos2ForConditionalGeneration, processor)


@pytest.fixture(scope="session")
def florence_folder(tmp_path_factory):
    places = [f"<loc_{index}>" for index in range(1000)]
    words = letters("<image>", extra_special_tokens={"image_token": "<image>"})
    words.add_special_tokens({"additional_special_tokens": places}, replace_extra_special_tokens=False)
    pictures = CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False)
    pictures.image_seq_length = 5
    vision = {
        "embed_dim": [8, 8, 8, 8],
        "depths": [1, 1, 1, 1],
        "num_heads": [2, 2, 2, 2],
        "num_groups": [2, 2, 2, 2],
        "window_size": 4,
        "projection_dim": 16,
    }
    text = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": len(words)}
    heads = {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
    widths = {f"{side}_ffn_dim": 32 for side in ("encoder", "decoder")}
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    config = Florence2Config(
        text_config={"model_type": "bart", **text, **heads, **widths, **ids},
        vision_config=vision,
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )
    folder = tmp_path_factory.mktemp("florence")
    processor = Florence2Processor(pictures, words)
    return save(folder, config, Florence2ForConditionalGeneration, processor)


def _qwen(folder, config, kind, patch, **vision):
    marks = [
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ]
    words = letters(*marks, eos_token="<|im_end|>", additional_special_tokens=marks)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
    ids = {"bos_token_id": None, "eos_token_id": words.eos_token_id}
    text = {"vocab_size": len(words), "num_key_value_heads": 1, "rope_parameters": rope, **sizes, **ids}
    small = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
    tokens = {
        f"{name}_token_id": words.convert_tokens_to_ids(mark)
        for name, mark in zip(("vision_start", "vision_end", "image", "video"), marks[2:], strict=True)
    }
    made = config(text_config=text, vision_config={"patch_size": patch, **small, **vision}, **tokens)
    pictures = Qwen2VLImageProcessor(patch_size=patch, min_pixels=28 * 28, max_pixels=128 * 128)
    return save(folder, made, kind, words, pictures)


@pytest.fixture(scope="session")
def qwen25_folder(tmp_path_factory):
    how = {"window_size": 28, "fullatt_block_indexes": [1]}
    folder = tmp_path_factory.mktemp("qwen25")
    return _qwen(folder, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, 14, **how)


@pytest.fixture(scope="session")
def qwen3_folder(tmp_path_factory):
    how = {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    folder = tmp_path_factory.mktemp("qwen3")
    return _qwen(folder, Qwen3VLConfig, Qwen3VLForConditionalGeneration, 16, **how)
