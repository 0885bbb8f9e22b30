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
from openferret.generation.native.packing import PackedWeights, packed_arrays, shape_of


def rounded(weight):
    """A matrix as the packed file holds it."""
    groups = weight.reshape(len(weight), -1, 32)
    scales = (groups.abs().amax(-1, keepdim=True) / 127).half().float()
    steps = torch.where(scales > 0, scales, 1.0)
    return ((groups / steps).round().clamp(-127, 127) * scales).reshape(weight.shape)


def packed(model):
    state = model.model.language_model.state_dict()
    head = model.lm_head.weight.detach()

    def tensor(name):
        return (head if name == "lm_head.weight" else state[name]).numpy()

    shape = shape_of(model.config.text_config.to_dict())
    return PackedWeights(shape, dict(packed_arrays(shape, tensor)))


@pytest.fixture(scope="module")
def models(tiny):
    """The engine, and transformers with the weights rounded as the engine's are."""
    model = tiny.loaded("kit").model
    try:
        engine = native.NativeEngine(packed(model), threads=2)
    except NoLibraryError as reason:
        pytest.skip(str(reason))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in twin.model.language_model.named_parameters():
            if weight.ndim == 2 and "embed" not in name:
                weight.copy_(rounded(weight))
        twin.lm_head.weight = torch.nn.Parameter(rounded(model.lm_head.weight.detach()))
    return engine, ReferenceEngine(twin)


def vectors(*counts, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 64, generator=generator) for count in counts]


def test_logits_are_those_of_transformers_with_the_same_rounded_weights(models):
    beginning, *steps = vectors(20)[0], vectors(3, seed=1), vectors(1, seed=2), vectors(40, seed=3)
    rows = [one.go_on(one.start(beginning), 1) for one in models]
    for step in steps:
        fast, reference = (one.append(step) for one in rows)
        assert fast.shape == reference.shape
        # Activations are rounded to 15 bits.
        torch.testing.assert_close(fast, reference, rtol=1e-2, atol=2e-2 * float(reference.std()))


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


def test_the_number_of_threads_changes_nothing(models, tiny):
    many, alone = models[0], native.NativeEngine(packed(tiny.loaded("kit").model), threads=1)
    texts = vectors(33)[0], vectors(5, seed=1)
    first, second = (one.go_on(one.start(texts[0]), 1).append(texts[1]) for one in (many, alone))
    assert torch.equal(first, second)


def test_a_processor_without_special_instructions_gets_the_same(models, tiny, tmp_path, monkeypatch):
    compiler = shutil.which("cc") or shutil.which("gcc")
    folder = Path(libraries.__file__).parent
    made = tmp_path / "plain.so"
    command = [
        compiler,
        "-O1",
        "-std=gnu11",
        "-fPIC",
        "-shared",
        "-Wno-psabi",
        "-o",
        made,
        folder / "llama.c",
    ]
    subprocess.run([*map(str, command), "-lm", "-lpthread"], check=True)
    monkeypatch.setattr(libraries, "compiled", lambda *_: ctypes.CDLL(str(made)))
    libraries.library.cache_clear()
    try:
        plain = native.NativeEngine(packed(tiny.loaded("kit").model), threads=2)
        assert plain._library.openferret_vnni() == 0
        texts = vectors(12)[0], vectors(3, seed=1)
        ours, theirs = (one.go_on(one.start(texts[0]), 1).append(texts[1]) for one in (plain, models[0]))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.std()))
    finally:
        libraries.library.cache_clear()
