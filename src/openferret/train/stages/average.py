"""Averages the trunks of several legs that began alike: the mean is better than each of them (docs/training.md).

    python -m openferret.train.stages.average --trunks A/trunk/state.pt B/trunk/state.pt --out C/trunk/state.pt

The namer is averaged too, but wants `run_naming` afterwards: it has to learn the averaged features. What stage L of one
of the legs has learned can be exported with it (`export --own-sampler`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from openferret.errors import InputError
from openferret.train.stages.states import plain_errors


def average_weights(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of every floating-point tensor; all others are the first's.

    Args:
        states: of one architecture, at least one.

    Raises:
        InputError: the states have other tensors or shapes.

    Example:
        >>> average_weights([{"a": torch.zeros(2)}, {"a": torch.ones(2)}])["a"].tolist()
        [0.5, 0.5]
    """
    first = states[0]
    for state in states[1:]:
        if {name: one.shape for name, one in state.items()} != {n: one.shape for n, one in first.items()}:
            raise InputError("only trunks of one architecture and the same nouns can be averaged")
    return {
        name: torch.stack([state[name].float() for state in states]).mean(0).to(one.dtype)
        if one.is_floating_point()
        else one
        for name, one in first.items()
    }


@plain_errors
def main() -> None:
    """Writes a trunk state that `run_naming` and `export` read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trunks", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    loaded = [torch.load(one, weights_only=True) for one in options.trunks]
    if any(one["heads"] != loaded[0]["heads"] for one in loaded):
        raise InputError("these trunks know different nouns; give trunks that were trained on the same data")
    steps = sum(one["step"] for one in loaded)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "average": average_weights([one["average"] for one in loaded]),
        "heads": loaded[0]["heads"],
        "step": steps,
    }
    torch.save(state, options.out)


if __name__ == "__main__":
    main()
