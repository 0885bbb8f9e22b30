"""7B and 13B: every name and shape without memory, and bounded memory when they are converted."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig

from openferret.convert.checkpoint import find_weights, list_tensors
from openferret.convert.names import our_name, reference_name, to_our_shape
from openferret.convert.release import meta_model
from openferret.convert.tokenizer import character_tokenizer
from openferret.model.configuration import FerretConfig

CLIP = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
SIZES = {"7B": (4096, 32, 32, 11008), "13B": (5120, 40, 40, 13824)}


def reference_shapes(hidden, layers, inner):
    """Names and shapes as the reference's documents list them."""
    shapes = {"model.embed_tokens.weight": (32001, hidden), "lm_head.weight": (32001, hidden)}
    shapes |= {"model.norm.weight": (hidden,)}
    for k in range(layers):
        layer = f"model.layers.{k}"
        shapes |= {f"{layer}.self_attn.{name}_proj.weight": (hidden, hidden) for name in "qkvo"}
        shapes |= {f"{layer}.mlp.{name}_proj.weight": (inner, hidden) for name in ("gate", "up")}
        shapes |= {f"{layer}.mlp.down_proj.weight": (hidden, inner)}
        shapes |= {f"{layer}.{name}_layernorm.weight": (hidden,) for name in ("input", "post_attention")}
    sampler = "model.region_geo_sampler."
    for k in (0, 1):
        shapes |= {
            f"{sampler}diff_projector_list.{k}.weight": (1026, 1026),
            f"{sampler}diff_projector_list.{k}.bias": (1026,),
            f"{sampler}agg_projector_list.{k}.net.0.weight": (1024, 2052, 1),
            f"{sampler}agg_projector_list.{k}.net.0.bias": (1024,),
            f"{sampler}agg_projector_list.{k}.norm.weight": (1024,),
            f"{sampler}agg_projector_list.{k}.norm.bias": (1024,),
        }
    return shapes | {
        f"{sampler}flatten_projector.weight": (1024, 32768),
        f"{sampler}flatten_projector.bias": (1024,),
        f"{sampler}dim_projector.weight": (hidden, 1024),
        f"{sampler}dim_projector.bias": (hidden,),
        "model.mm_projector.weight": (hidden, 1024),
        "model.mm_projector.bias": (hidden,),
    }


@pytest.mark.parametrize("size", SIZES)
def test_every_name_and_shape(size):
    hidden, layers, heads, inner = SIZES[size]
    text = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        vocab_size=32001,
        max_position_embeddings=2048,
    )
    model = meta_model(FerretConfig(text_config=text))
    found = {name: tuple(one.shape) for name, one in model.state_dict().items()}
    tower = {name for name in found if name.startswith("model.vision_tower.")}
    expected = reference_shapes(hidden, layers, inner)
    assert {reference_name(name) for name in set(found) - tower} == set(expected)
    for name, shape in expected.items():
        ours = our_name(name)
        assert found[ours] == tuple(to_our_shape(ours, torch.empty(shape, device="meta")).shape)
    assert sum(model.get_parameter(name).numel() for name in tower) == 303_507_456
    assert all(our_name(reference_name(name)) == name for name in tower)
    if size == "7B":
        assert sum(one.numel() for one in model.model.sampler.parameters()) == 44_069_900


CONVERT = """
import sys
from pathlib import Path
from openferret.convert import Sources, convert_apple
delta, base, vision, out = map(Path, sys.argv[1:])
convert_apple(Sources(delta, base, vision), out)
# Not ru_maxrss: that remembers the process which this one was started from.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) * 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_checkpoint(tmp_path):
    """Deltas and base of 1.4 GB each: less is used than 1.5 times the largest shard and 1 GiB."""
    hidden, layers, inner, heads = 2048, 10, 5504, 16
    config = {
        "model_type": "ferret",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": 32001,
        "im_region_fea_token": 32000,
    }
    delta, base, vision = (tmp_path / name for name in ("delta", "base", "vision"))
    shapes = list(reference_shapes(hidden, layers, inner).items())
    for folder, value, count in ((delta, 0.01, len(shapes)), (base, 1.0, 3 + 9 * layers)):
        folder.mkdir()
        for k in range(5):
            part = shapes[k * count // 5 : (k + 1) * count // 5]
            tensors = {name: torch.full(shape, value, dtype=torch.float16) for name, shape in part}
            torch.save(tensors, folder / f"pytorch_model-{k + 1:05}-of-00005.bin")
    (delta / "config.json").write_text(json.dumps(config), encoding="utf-8")
    character_tokenizer(32000).save_pretrained(delta)
    tower = CLIPVisionConfig(**CLIP)
    with torch.device("meta"):
        names = {name: one.shape for name, one in CLIPVisionModel(tower).state_dict().items()}
    vision.mkdir()
    tower.save_pretrained(vision)
    save_file(
        {k: torch.zeros(v, dtype=torch.float16) for k, v in names.items()}, vision / "model.safetensors"
    )
    command = [sys.executable, "-c", CONVERT, delta, base, vision, tmp_path / "out"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    largest = max(file.stat().st_size for file in (*delta.glob("*.bin"), *base.glob("*.bin")))
    total = sum(file.stat().st_size for file in (*delta.glob("*.bin"), *base.glob("*.bin")))
    bound = 1.5 * largest + (1 << 30)
    assert int(done.stdout) < bound < total
    merged = list_tensors(find_weights(tmp_path / "out"))["model.language_model.norm.weight"].read()
    assert merged.unique().tolist() == [torch.tensor(1.0).half().add(torch.tensor(0.01).half()).item()]
