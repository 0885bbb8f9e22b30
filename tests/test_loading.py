from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from openferret.errors import InputError, WeightsError
from openferret.loading import load_model


@pytest.fixture
def folder(tiny, tmp_path):
    loaded = tiny.loaded("paper")
    loaded.model.save_pretrained(tmp_path)
    loaded.processor.save_pretrained(tmp_path)
    return tmp_path


def test_a_saved_model_is_opened_as_asked(folder):
    loaded = load_model(folder, dtype=torch.bfloat16, seed=3)
    assert loaded.model.dtype == torch.bfloat16
    assert loaded.processor.seed == 3
    assert loaded.name == folder.name


def test_kit_is_put_together_first(folder, monkeypatch):
    monkeypatch.setattr("openferret.loading.ensure_kit", lambda: folder)
    assert load_model("kit").name == "kit"


def test_no_model_is_said_to_be_none(tmp_path):
    with pytest.raises(WeightsError, match="there is no model"):
        load_model(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"seed": -1}, "seed must be a whole number of 0 or more"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"dtype": "float16"}, "dtype must be a floating type of PyTorch"),
        ({"dtype": torch.int8}, "dtype must be a floating type of PyTorch"),
        ({"model": 5}, "a model must be str or Path"),
    ],
)
def test_what_is_no_seed_dtype_or_model_is_refused_before_anything_is_opened(given, says):
    with pytest.raises(InputError, match=says):
        load_model(**{"model": "nowhere", **given})


def configure(folder, name, value):
    file = folder / "config.json"
    content = json.loads(file.read_text())
    content[name] = content[name] | value if isinstance(value, dict) else value
    file.write_text(json.dumps(content))


def forget(file, name):
    tensors = load_file(file)
    del tensors[name]
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(b"not weights"),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "tokenizer.json").unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "config.json").write_text("[]"),
        lambda folder: (folder / "config.json").write_text('{"model_type": "llama"}'),
        lambda folder: (folder / "processor_config.json").unlink(),
        lambda folder: (folder / "processor_config.json").write_text("[]"),
        lambda folder: forget(folder / "model.safetensors", "model.projector.weight"),
        lambda folder: configure(folder, "vision_config", "none"),
        lambda folder: configure(folder, "text_config", {"hidden_size": 7}),
        lambda folder: configure(folder, "text_config", {"hidden_size": 32}),
    ],
    ids=[
        *("damaged", "no weights", "no tokenizer", "torn", "a list", "another model", "no processor"),
        *("another processor", "a weight is missing", "no tower", "odd sizes", "other sizes"),
    ],
)
def test_damaged_weights_are_an_error_of_one_line(folder, damage, capfd):
    damage(folder)
    with pytest.raises(WeightsError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "cpu:banana", "meta", "hpu", None])
def test_a_device_that_is_not_there_is_refused(folder, device):
    with pytest.raises(InputError, match="no device"):
        load_model(folder, device)


def test_a_pickle_in_a_model_folder_is_not_opened(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError):
        load_model(folder)
