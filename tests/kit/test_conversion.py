"""Conversion of the base weights to safetensors."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from openferret.kit import base_weights, conversion
from openferret.kit.base_weights import BaseWeights


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of two tensors in the place of the fetched one, and an empty cache."""
    path = tmp_path / "tiny.pth"
    torch.save(
        {"stem.weight": torch.arange(24.0).reshape(2, 3, 4).transpose(0, 2), "norm.bias": torch.ones(3)}, path
    )
    monkeypatch.setenv("OPENFERRET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(conversion, "fetch", lambda progress: BaseWeights(path, path))
    return path


def test_tensors_keep_their_names_and_values(checkpoint: Path) -> None:
    converted = load_file(conversion.vision_model(progress=False))
    original = torch.load(checkpoint, weights_only=True)
    assert converted.keys() == original.keys()
    assert all(torch.equal(converted[name], original[name]) for name in original)


def test_a_converted_part_is_made_once_and_again_when_damaged(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    convert = conversion.convert_vision_model

    def counted(source: Path, out_dir: Path) -> None:
        made.append(source)
        convert(source, out_dir)

    monkeypatch.setattr(conversion, "convert_vision_model", counted)
    file = conversion.vision_model(progress=False)
    content = file.read_bytes()
    assert conversion.vision_model(progress=False) == file
    assert len(made) == 1
    file.write_bytes(content[:-1])
    assert conversion.vision_model(progress=False).read_bytes() == content
    assert len(made) == 2


def test_an_interrupted_conversion_leaves_nothing_that_counts(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(source: Path, out_dir: Path) -> None:
        out_dir.mkdir()
        (out_dir / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "convert_vision_model", interrupted)
        with pytest.raises(KeyboardInterrupt):
            conversion.vision_model(progress=False)
    assert "norm.bias" in load_file(conversion.vision_model(progress=False))


@pytest.mark.slow
def test_smollm2_speaks_after_conversion() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = conversion.language_model(progress=False)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for token in ("<|im_start|>", "<|im_end|>"):
        assert tokenizer.encode(token) == [tokenizer.convert_tokens_to_ids(token)]
    for text in (
        "Hello world, it's  a dog.\n\n x",
        "naïve 日本 [10, 20]",
        " 1234567 89",
        "<|im_start|>user\nhi<|im_end|>",
    ):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)


@pytest.mark.slow
def test_efficientnet_lite2_has_its_own_names() -> None:
    tensors = load_file(conversion.vision_model(progress=False))
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_fc.weight"].shape == (1000, 1280)
    assert base_weights.find() is not None
