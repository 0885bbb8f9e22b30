from __future__ import annotations

import sys

import pytest
import torch

from openferret.errors import InputError
from openferret.train.stages.average import average_weights, main


def leg(value, heads=("dog",), step=3):
    return {
        "average": {"w": torch.full((2, 3), value), "n": torch.tensor(7)},
        "heads": list(heads),
        "step": step,
    }


def test_numbers_are_averaged_and_counts_are_kept():
    mean = average_weights([leg(1.0)["average"], leg(2.0)["average"], leg(6.0)["average"]])
    assert mean["w"].tolist() == [[3.0] * 3] * 2
    assert mean["n"] == 7
    half = average_weights([{"w": torch.zeros(1).half()}, {"w": torch.ones(1).half()}])
    assert half["w"].dtype == torch.float16


@pytest.mark.parametrize("other", [{"w": torch.zeros(3)}, {"v": torch.zeros(2)}])
def test_other_architectures_are_refused(other):
    with pytest.raises(InputError, match="one architecture"):
        average_weights([{"w": torch.zeros(2)}, other])


def test_the_mean_of_two_legs_is_a_trunk_state(tmp_path, monkeypatch):
    for name, one in (("a", leg(1.0)), ("b", leg(2.0, step=4)), ("c", leg(2.0, heads=("cat",)))):
        torch.save(one, tmp_path / f"{name}.pt")
    out = tmp_path / "mean" / "state.pt"
    arguments = ["average", "--out", str(out), "--trunks", str(tmp_path / "a.pt")]
    monkeypatch.setattr(sys, "argv", [*arguments, str(tmp_path / "b.pt")])
    main()
    state = torch.load(out, weights_only=True)
    assert state["average"]["w"].unique().tolist() == [1.5]
    assert (state["heads"], state["step"]) == (["dog"], 7)
    monkeypatch.setattr(sys, "argv", [*arguments, str(tmp_path / "c.pt")])
    with pytest.raises(SystemExit, match="different nouns"):
        main()
