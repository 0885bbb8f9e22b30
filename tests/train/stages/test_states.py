from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from openferret.train.stages.states import follow, save_state, tell


def test_a_state_replaces_the_one_before_and_leaves_nothing_beside_it(tmp_path):
    file = tmp_path / "state.pt"
    for step in (1, 2):
        save_state({"step": step, "model": {"a": torch.ones(2)}}, file)
    assert torch.load(file, weights_only=True)["step"] == 2
    assert [one.name for one in tmp_path.iterdir()] == ["state.pt"]


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path):
    file = tmp_path / "state.pt"
    save_state({"step": 1}, file)
    with pytest.raises(Exception, match="pickle"):
        save_state({"step": 2, "wrong": lambda: None}, file)
    assert torch.load(file, weights_only=True)["step"] == 1


def test_figures_are_told_and_kept(tmp_path, capsys):
    tell({"step": 1}, tmp_path)
    tell({"step": 2, "box": 0.5}, tmp_path)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1}, {"step": 2, "box": 0.5}]
    assert "'box': 0.5" in capsys.readouterr().out


def test_an_average_moves_fast_at_first_and_slowly_later():
    average, model = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        average.weight.fill_(0.0)
        model.weight.fill_(1.0)
    follow(average, model, 0, 0.99)
    assert average.weight.item() == pytest.approx(0.9)
    with torch.no_grad():
        average.weight.fill_(0.0)
    follow(average, model, 10_000, 0.99)
    assert average.weight.item() == pytest.approx(0.01, abs=1e-4)
