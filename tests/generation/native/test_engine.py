"""The compiled engine computes what transformers does of the same rounded weights."""

from __future__ import annotations

import copy
import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from openferret.compiling import NoLibraryError
from openferret.generation.engines import ReferenceEngine
from openferret.generation.native import engine as native
from openferret.generation.native import library as libraries
from openferret.generation.native.matrices import LowRank
from openferret.generation.native.packing import PackedWeights, packed_arrays, shape_of
from openferret.model.modeling import FerretForConditionalGeneration


def packed(model, updates=None):
    state = model.model.language_model.state_dict()
    head = model.lm_head.weight.detach()

    def tensor(name):
        return (head if name == "lm_head.weight" else state[name]).numpy()

    shape = shape_of(model.config.text_config.to_dict())
    return PackedWeights(shape, dict(packed_arrays(shape, tensor, (updates or {}).get)))


def opened(weights, threads=2):
    try:
        return native.NativeEngine(weights, threads=threads)
    except NoLibraryError as reason:
        pytest.skip(str(reason))


def taught(model):
    """A model whose layers are of four bits but for an adapter, and its head of eight; and the adapter."""
    model, updates = copy.deepcopy(model), {}
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.model.language_model.named_parameters():
        if weight.ndim == 2 and "embed" not in name:
            groups = weight.detach().reshape(len(weight), -1, 32)
            low = groups.amin(-1, keepdim=True).half().float()
            step = ((groups.amax(-1, keepdim=True) - low) / 15).half().float()
            published = (low + step * ((groups - low) / step).round().clamp(0, 15)).reshape(weight.shape)
            up, down = (
                torch.randn(*one, generator=generator) * 0.02
                for one in ((len(weight), 16), (16, weight.shape[1]))
            )
            with torch.no_grad():
                weight.copy_((published + up @ down).half())
            updates[name] = LowRank(up.numpy(), down.numpy())
    groups = model.lm_head.weight.detach().reshape(len(model.lm_head.weight), -1, 32)
    step = (groups.abs().amax(-1, keepdim=True) / 127).half().float()
    head = ((groups / step.clamp(min=1e-9)).round() * step).reshape(model.lm_head.weight.shape)
    model.lm_head.weight = torch.nn.Parameter(head)
    return model, updates


def twin_of(model, weights, unpacking):
    """transformers with the weights that the engine has."""
    twin = copy.deepcopy(model)
    joined = {
        "query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "output": ("self_attn.o_proj",),
        "down": ("mlp.down_proj",),
    }

    def fill(layer, places, matrix):
        for place in places:
            module = layer.get_submodule(place)
            module.weight.copy_(torch.from_numpy(matrix[: len(module.weight)].copy()))
            matrix = matrix[len(module.weight) :]

    with torch.no_grad():
        for index, layer in enumerate(twin.model.language_model.layers):
            for name, places in joined.items():
                fill(layer, places, unpacking.restored(weights.arrays, f"layers.{index}.{name}"))
            pair = unpacking.restored(weights.arrays, f"layers.{index}.gate_up")
            turns = pair.reshape(-1, 2, 16, pair.shape[1]).swapaxes(0, 1).reshape(-1, pair.shape[1])
            fill(layer, ("mlp.gate_proj", "mlp.up_proj"), turns)
        head = torch.from_numpy(unpacking.restored(weights.arrays, "head"))
        twin.lm_head.weight = torch.nn.Parameter(head[: len(twin.lm_head.weight)])
    return ReferenceEngine(twin)


@pytest.fixture(scope="module")
def models(tiny, unpacking):
    """The engine, and transformers with the weights rounded as the engine's are."""
    model = tiny.loaded("kit").model
    weights = packed(model)
    return opened(weights), twin_of(model, weights, unpacking)


@pytest.fixture(scope="module")
def four_bits(tiny, unpacking):
    """The same with four-bit weights and an adapter; and transformers with the model's own weights."""
    model, updates = taught(tiny.loaded("kit").model)
    weights = packed(model, updates)
    return opened(weights), twin_of(model, weights, unpacking), ReferenceEngine(model)


def vectors(*counts, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 64, generator=generator) for count in counts]


@pytest.mark.parametrize("kind", ["models", "four_bits"])
def test_logits_are_those_of_transformers_with_the_same_rounded_weights(kind, request):
    models = request.getfixturevalue(kind)[:2]
    assert models[0].precision == {"models": "int8", "four_bits": "int4"}[kind]
    beginning, *steps = vectors(20)[0], vectors(3, seed=1), vectors(1, seed=2), vectors(40, seed=3)
    rows = [one.go_on(one.start(beginning), 1) for one in models]
    for step in steps:
        fast, reference = (one.append(step) for one in rows)
        assert fast.shape == reference.shape
        # Activations are rounded to 15 bits.
        torch.testing.assert_close(fast, reference, rtol=1e-2, atol=2e-2 * float(reference.std()))


@pytest.mark.parametrize(("heads", "shared"), [(3, 1), (6, 2), (3, 3)])
def test_heads_that_share_keys_are_read_as_transformers_reads_them(tiny, unpacking, heads, shared):
    config = tiny.kit()
    text = config.text_config
    text.hidden_size, text.head_dim = 64 * heads, 64  # Kit's width of a head
    text.num_attention_heads, text.num_key_value_heads = heads, shared
    torch.manual_seed(0)
    model = FerretForConditionalGeneration(config).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.mul_(3)
    weights = packed(model)
    engines = opened(weights), twin_of(model, weights, unpacking)
    beginning, *steps = (torch.randn(count, 64 * heads) for count in (70, 1, 5, 1))
    rows = [one.go_on(one.start(beginning), 2) for one in engines]
    for step in steps:
        fast, reference = (one.append([step, step.flip(-1)]) for one in rows)
        torch.testing.assert_close(fast, reference, rtol=1e-2, atol=2e-2 * float(reference.std()))


def test_four_bits_and_an_adapter_lose_next_to_nothing(models, four_bits, tiny):
    beginning, more = vectors(20)[0], vectors(3, seed=1)

    def lost(engine, reference):
        fast, exact = (one.go_on(one.start(beginning), 1).append(more) for one in (engine, reference))
        return float((fast - exact).norm() / exact.norm())

    assert lost(four_bits[0], four_bits[2]) < 0.2 * lost(models[0], ReferenceEngine(tiny.loaded("kit").model))


def test_rows_together_are_as_alone_and_leave_the_beginning_as_it_was(models):
    engine = models[0]
    beginning = engine.start(vectors(9)[0])
    before = beginning.keys.copy()
    together = engine.go_on(beginning, 3)
    steps = [vectors(2, 17, 5, seed=4), vectors(1, 1, 1, seed=5), vectors(60, 1, 2, seed=6)]
    for step in steps:
        both = together.append(step)
    for row in range(3):
        alone = engine.go_on(beginning, 1)
        for step in steps:
            single = alone.append([step[row]])
        torch.testing.assert_close(single[0], both[row], rtol=1e-4, atol=1e-4)
    together.keep([2])
    more = vectors(1, seed=7)
    torch.testing.assert_close(together.append(more), alone.append(more), rtol=1e-4, atol=1e-4)
    assert beginning.length == 9
    np.testing.assert_array_equal(beginning.keys, before)


def test_the_number_of_threads_changes_nothing(four_bits, tiny):
    many, alone = four_bits[0], native.NativeEngine(packed(*taught(tiny.loaded("kit").model)), threads=1)
    texts = vectors(33)[0], vectors(5, seed=1)
    first, second = (one.go_on(one.start(texts[0]), 1).append(texts[1]) for one in (many, alone))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("instructions", "flags"),
    [(libraries.PLAIN, ("-O1",)), (libraries.AVX2, ("-O3", "-mavx2", "-mfma", "-mf16c"))],
    ids=["plain", "avx2"],
)
def test_a_processor_with_fewer_instructions_gets_the_same(
    instructions, flags, models, four_bits, tiny, tmp_path, monkeypatch
):
    if instructions == libraries.AVX2 and models[0]._library.openferret_instructions() < libraries.AVX2:
        pytest.skip("this processor has no AVX2")
    compiler = shutil.which("cc") or shutil.which("gcc")
    made = tmp_path / "fewer.so"
    source = Path(libraries.__file__).parent / "llama.c"
    common = ("-std=gnu11", "-fPIC", "-shared", "-Wno-psabi")
    subprocess.run([compiler, *flags, *common, "-o", made, source, "-lm", "-lpthread"], check=True)
    monkeypatch.setattr(libraries, "compiled", lambda *_: ctypes.CDLL(str(made)))
    libraries.library.cache_clear()
    try:
        model, texts = tiny.loaded("kit").model, (vectors(12)[0], vectors(3, seed=1), vectors(1, seed=2))
        for weights, engine in ((packed(model), models[0]), (packed(*taught(model)), four_bits[0])):
            fewer = native.NativeEngine(weights, threads=2)
            assert fewer._library.openferret_instructions() == instructions
            rows = [one.go_on(one.start(texts[0]), 1) for one in (fewer, engine)]
            for text in texts[1:]:
                ours, theirs = (one.append(text) for one in rows)
                torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.std()))
    finally:
        libraries.library.cache_clear()
