"""A folder opened without transformers answers as the same folder opened with it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from openferret import Ferret
from openferret.compiling import NoLibraryError
from openferret.coordinates import to_bin
from openferret.errors import InputError
from openferret.generation.native.library import PLAIN, library
from openferret.light import LightProcessor, check_light
from openferret.loading import load_model
from openferret.regions import Box, Point, Scribble

PICTURE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
TEXTS = (
    "what is a red ball?",
    "  two  spaces\nand a line ",
    "<image> <loc_3> <|im_end|> as letters",
    "ünïcödé 犬 🐕",
    "<region_fea>",
    "",
)


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    where = tmp_path_factory.mktemp("light") / "tiny-kit"
    loaded = tiny.loaded("kit")
    loaded.model.save_pretrained(where)
    loaded.processor.save_pretrained(where)
    return where


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    """What is prepared of these models does not stay in the user's cache; the compiled library does."""
    try:
        if library().openferret_instructions() == PLAIN:
            pytest.skip("the fast engine is not chosen on this processor")
    except NoLibraryError as reason:
        pytest.skip(str(reason))
    monkeypatch.setenv("OPENFERRET_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def test_words_and_boxes_are_those_of_transformers(tiny, folder):
    fast, reference = (Ferret.load(folder, engine=one) for one in ("fast", "reference"))
    assert (fast.loaded.engine.name, fast.loaded.engine.precision) == ("fast", "int8")
    assert (reference.loaded.engine.name, reference.loaded.engine.precision) == ("reference", "float32")
    scenes = [one.encode(PICTURE) for one in (fast, reference)]
    regions = [Box(5, 5, 40, 30), Point(9, 9), Scribble([(1, 1), (30, 20)])]
    asked = (
        lambda scene: scene.refer_many(regions, max_new_tokens=3),
        lambda scene: [scene.ground(["a dog", "the red ball"], threshold=0.0)],
        lambda scene: [scene.ground("a dog", merge=True, threshold=0.0)],
        lambda scene: [scene.detect(0.0, max_new_tokens=2)],
        lambda scene: [scene.chat().say("what is [0]?", regions[:1], max_new_tokens=3)],
    )
    for question in asked:
        for ours, theirs in zip(*map(question, scenes), strict=True):
            assert ours.text == theirs.text
            boxes = [[box for one in answer.mentions for box in one.boxes] for answer in (ours, theirs)]
            for box, expected in zip(*boxes, strict=True):
                bins = [[to_bin(1000 * side, 1000) for side in one.normalized] for one in (box, expected)]
                assert np.abs(np.subtract(*bins)).max() <= 2


def test_text_becomes_the_same_tokens_and_comes_back(tiny, folder):
    light, heavy = LightProcessor(folder), tiny.loaded("kit").processor
    assert light.stop_ids == heavy.stop_ids
    assert len(light.tokenizer) == len(heavy.tokenizer)
    for text in TEXTS:
        ids = heavy.tokenize(text)
        assert light.tokenize(text) == ids
        for skip in (True, False):
            assert light.tokenizer.decode(ids, skip_special_tokens=skip) == heavy.tokenizer.decode(
                ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
            )
    for name in ("<image>", "<|im_end|>", "no such token of any kind"):
        ours, theirs = (one.tokenizer.convert_tokens_to_ids(name) for one in (light, heavy))
        assert ours in (theirs, None)


def test_the_engine_is_chosen_by_argument_then_environment_then_dtype(folder, monkeypatch):
    assert load_model(folder).engine.name == "fast"
    assert load_model(folder, dtype=torch.float32).engine.name == "reference"
    monkeypatch.setenv("OPENFERRET_ENGINE", "reference")
    assert load_model(folder).engine.name == "reference"
    assert load_model(folder, engine="fast").engine.name == "fast"
    monkeypatch.setenv("OPENFERRET_ENGINE", "quick")
    with pytest.raises(InputError, match="one of auto, fast, reference"):
        load_model(folder)
    with pytest.raises(InputError, match="its own precision"):
        load_model(folder, engine="fast", dtype=torch.bfloat16)


def test_another_kind_of_model_is_opened_by_transformers(tiny, tmp_path):
    loaded = tiny.loaded("paper")
    loaded.model.save_pretrained(tmp_path)
    loaded.processor.save_pretrained(tmp_path)
    assert load_model(tmp_path).engine.name == "reference"
    with pytest.raises(InputError, match="fast engine cannot run this model here: its vision tower"):
        load_model(tmp_path, engine="fast")


def test_without_a_compiler_transformers_takes_over(folder, monkeypatch):
    def none():
        raise NoLibraryError("there is no C compiler")

    monkeypatch.setattr("openferret.light.library", none)
    assert load_model(folder).engine.name == "reference"
    with pytest.raises(InputError, match="no C compiler"):
        load_model(folder, engine="fast")


def test_what_was_prepared_follows_the_weights_and_is_repaired(folder):
    from safetensors.torch import load_file, save_file

    from openferret.kit.base_weights import cache_folder

    kept = cache_folder() / "engine"

    def logits():
        engine = load_model(folder).engine
        return engine.go_on(engine.start(torch.ones(3, 64)), 1).append([torch.ones(1, 64)])

    before = logits()
    for file in kept.glob("*.packed"):
        file.write_bytes(file.read_bytes()[:1000])
    assert torch.equal(logits(), before)
    file = folder / "model.safetensors"
    original = file.read_bytes()
    halves = {name: one * 0.5 for name, one in load_file(file).items()}
    save_file(halves, file, metadata={"format": "pt"})
    try:
        assert not torch.allclose(logits(), before)
        folders = [one.name.split("-")[0] for one in kept.glob("*.packed")]
        assert len(set(folders)) == len(folders)  # what was made of the earlier weights is gone
    finally:
        file.write_bytes(original)


def test_a_folder_can_be_checked_without_being_opened(folder):
    check_light(folder)


@pytest.mark.slow
def test_a_prepared_model_is_opened_and_asked_without_transformers(folder):
    code = f"""
import sys
import numpy as np
from openferret import Ferret, Box
scene = Ferret.load({str(folder)!r}).encode(np.zeros((40, 60, 3), np.uint8))
scene.refer(Box(5, 5, 40, 30), max_new_tokens=2)
scene.ground("a dog")
print(*sorted({{one.split(".")[0] for one in sys.modules}} & {{"transformers", "scipy", "sympy", "accelerate"}}))
"""
    for _ in range(2):  # the first prepares it
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
