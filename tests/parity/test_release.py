"""The reference's tiny checkpoint through the command, and what it becomes."""

import numpy as np
import torch
from typer.testing import CliRunner

from openferret.cli.main import app
from openferret.convert import convert_to_apple
from openferret.convert.checkpoint import find_weights, list_tensors


def test_converted_by_the_command_it_opens_and_answers(parity, tmp_path):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from openferret import Box, Ferret, Point, Scribble, auto

    out = tmp_path / "tiny"
    words = ["convert", "apple", "--delta", str(parity / "model/tiny_ferret"), "--out", str(out), "--quiet"]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout) == (0, f"{out}\n")
    model, info = AutoModelForImageTextToText.from_pretrained(out, output_loading_info=True)
    assert isinstance(model, auto.FerretForConditionalGeneration)
    assert not any(info.values())
    assert isinstance(AutoProcessor.from_pretrained(out), auto.FerretProcessor)
    scene = Ferret.load(out).encode(np.full((90, 120, 3), 90, np.uint8))
    for region in (Point(10, 20), Box(10, 20, 60, 70), Scribble([(1, 2), (50, 60)])):
        answer = scene.refer(region, max_new_tokens=4)
        assert (answer.width, answer.height, answer.model) == (120, 90, "tiny")


def test_written_back_it_is_the_same_bit_for_bit(parity, converted, tmp_path):
    source, back = parity / "model/tiny_ferret", convert_to_apple(converted, tmp_path / "back")
    for folder in ("", "vision_tower"):
        found = list_tensors(find_weights(back / folder))
        expected = torch.load(source / folder / "pytorch_model.bin", weights_only=True)
        missing = {name for name in expected if name not in found}
        assert all(name.endswith("position_ids") for name in missing)
        assert not set(found) - set(expected)
        assert all(torch.equal(found[name].read(), expected[name]) for name in found)
    for name in ("config.json", "generation_config.json"):
        assert (back / name).read_bytes() == (source / name).read_bytes()
