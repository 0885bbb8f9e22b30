"""What every stage does in the same way: keep its state, its log and averaged weights, and say what was wrong."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from openferret.errors import InputError
from openferret.train.stages.devices import moved


def plain_errors(main: Callable[[], None]) -> Callable[[], None]:
    """A stage's main function, which tells in one line, not in a traceback, what is wrong with what it was given.

    Example:
        >>> @plain_errors
        ... def main() -> None:
        ...     raise InputError("there are no pictures")
        >>> main()
        Traceback (most recent call last):
        SystemExit: error: there are no pictures
    """

    @functools.wraps(main)
    def told() -> None:
        try:
            main()
        except (InputError, FileNotFoundError) as error:
            raise SystemExit(f"error: {error}") from error

    return told


def save_state(state: Mapping[str, Any], file: Path) -> None:
    """Writes tensors and numbers, whole or not at all: a stage may be stopped at any moment.

    Whatever trained them, they can be read where there is only a processor.
    """
    partial = file.with_suffix(".part")
    torch.save(moved(dict(state), torch.device("cpu")), partial)
    partial.replace(file)


def tell(line: Mapping[str, Any], folder: Path) -> None:
    """Prints figures, and adds them to the folder's `log.jsonl`."""
    print(dict(line), flush=True)
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(dict(line)) + "\n")


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, step: int, most: float) -> None:
    """Draws averaged weights towards those that are trained, in place.

    Args:
        average: of the weights so far.
        model: of the same architecture.
        step: how many steps were taken before; the first ones count for more.
        most: the highest share that stays as it was.
    """
    stays = min(most, (1 + step) / (10 + step))
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1 - stays)
