"""A release in the reference's full layout (32 layers, 24 of the vision tower) at a small width.

Deltas in three `.bin` shards with an index, their base in two safetensors shards without one, and the vision
tower in a folder of its own.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from openferret.convert.checkpoint import find_weights

WORDS = 300
LAYERS = 32
WIDTH = 32
CHANNELS = 16


@dataclass(frozen=True)
class SmallRelease:
    delta: Path
    base: Path
    vision: Path
    merged: dict[str, torch.Tensor]
    tower: dict[str, torch.Tensor]


def language_shapes(words):
    shapes = {"model.embed_tokens.weight": (words, WIDTH)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"{prefix}.self_attn.{name}.weight"] = (WIDTH, WIDTH)
        shapes[f"{prefix}.mlp.gate_proj.weight"] = (64, WIDTH)
        shapes[f"{prefix}.mlp.up_proj.weight"] = (64, WIDTH)
        shapes[f"{prefix}.mlp.down_proj.weight"] = (WIDTH, 64)
        shapes[f"{prefix}.input_layernorm.weight"] = (WIDTH,)
        shapes[f"{prefix}.post_attention_layernorm.weight"] = (WIDTH,)
    return shapes | {"model.norm.weight": (WIDTH,), "lm_head.weight": (words, WIDTH)}


def ferret_shapes():
    pairs, sampler = CHANNELS + 2, "model.region_geo_sampler."
    shapes = {"model.mm_projector.weight": (WIDTH, CHANNELS), "model.mm_projector.bias": (WIDTH,)}
    for block in range(2):
        diff, agg = f"{sampler}diff_projector_list.{block}", f"{sampler}agg_projector_list.{block}"
        shapes |= {f"{diff}.weight": (pairs, pairs), f"{diff}.bias": (pairs,)}
        shapes |= {f"{agg}.net.0.weight": (CHANNELS, 2 * pairs, 1), f"{agg}.net.0.bias": (CHANNELS,)}
        shapes |= {f"{agg}.norm.weight": (CHANNELS,), f"{agg}.norm.bias": (CHANNELS,)}
    flatten = {"weight": (CHANNELS, 32 * CHANNELS), "bias": (CHANNELS,)}
    output = {"weight": (WIDTH, CHANNELS), "bias": (WIDTH,)}
    shapes |= {f"{sampler}flatten_projector.{kind}": shape for kind, shape in flatten.items()}
    return shapes | {f"{sampler}dim_projector.{kind}": shape for kind, shape in output.items()}


def drawn(shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(shape, generator=generator) * 0.02 + name.endswith("norm.weight")).half()
        for name, shape in shapes.items()
    }


def save(tensors, file):
    if file.suffix == ".bin":
        torch.save({name: one.clone() for name, one in tensors.items()}, file)
    else:
        save_file(tensors, file, metadata={"format": "pt"})


def load(file):
    return torch.load(file, weights_only=True) if file.suffix == ".bin" else load_file(file)


def write_shards(folder, tensors, shards, form):
    folder.mkdir(parents=True, exist_ok=True)
    names, places = list(tensors), {}
    for k in range(shards):
        file = form.format(f"{k + 1:05}-of-{shards:05}")
        part = names[k * len(names) // shards : (k + 1) * len(names) // shards]
        save({name: tensors[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    return places


def write_tokenizer(folder):
    from openferret.convert.tokenizer import character_tokenizer

    character_tokenizer(WORDS).save_pretrained(folder)


def vision_tensors():
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=CHANNELS,
        intermediate_size=32,
        num_hidden_layers=24,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        projection_dim=8,
    )
    torch.manual_seed(0)
    tower = {
        name if name.startswith("vision_model.") else f"vision_model.{name}": tensor.detach().clone()
        for name, tensor in CLIPVisionModel(config).state_dict().items()
        if not name.endswith("position_ids")
    }
    return config, tower


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("release")
    base, more = drawn(language_shapes(WORDS), 1), drawn(language_shapes(WORDS + 1) | ferret_shapes(), 2)
    delta = {
        name: tensor * 0.1 - name.endswith("norm.weight") * 0.1 * (name in base)
        for name, tensor in more.items()
    }
    merged = {}
    for name, tensor in delta.items():
        if name in base:
            rows = len(base[name])
            merged[name] = torch.cat([tensor[:rows] + base[name], tensor[rows:]])
        else:
            merged[name] = tensor
    config = {
        "model_type": "ferret",
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "vocab_size": WORDS + 1,
        "max_sequence_length": 1024,
        "mm_hidden_size": CHANNELS,
        "mm_vision_select_layer": -2,
        "region_geo_sampler": True,
        "im_region_fea_token": WORDS,
        "auto_map": {"AutoModel": "evil.Code"},
    }
    places = write_shards(root / "delta", delta, 3, "pytorch_model-{}.bin")
    index = json.dumps({"metadata": {}, "weight_map": places})
    (root / "delta/pytorch_model.bin.index.json").write_text(index, encoding="utf-8")
    (root / "delta/config.json").write_text(json.dumps(config), encoding="utf-8")
    write_tokenizer(root / "delta")
    inverse = {f"model.layers.{k}.self_attn.rotary_emb.inv_freq": torch.rand(8) for k in range(LAYERS)}
    write_shards(root / "base", base | inverse, 2, "model-{}.safetensors")
    vision_config, tower = vision_tensors()
    (root / "vision").mkdir()
    vision_config.save_pretrained(root / "vision")
    save_file(tower, root / "vision/model.safetensors", metadata={"format": "pt"})
    return SmallRelease(root / "delta", root / "base", root / "vision", merged, tower)


@pytest.fixture
def change():
    """Edits weight files: `edit` changes a file's tensors in place and says whether it did."""

    def changed(folder, edit):
        for file in find_weights(folder):
            tensors = load(file)
            if edit(tensors):
                save(tensors, file)

    return changed


@pytest.fixture
def release(original, tmp_path):
    """A copy that a test may damage."""
    for name in ("delta", "base", "vision"):
        shutil.copytree(getattr(original, name), tmp_path / name)
    folders = (tmp_path / name for name in ("delta", "base", "vision"))
    return SmallRelease(*folders, original.merged, original.tower)
