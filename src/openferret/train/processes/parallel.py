"""One process or many: what the loop needs of whoever runs it.

`distributed.py` does it through accelerate, `sharding.py` through torch's `fully_shard`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from openferret.train.objectives.module import TrainingModule


class Parallel(Protocol):
    """Processes that train one model.

    Attributes:
        device: of this process.
        process: rank, 0 for the one that writes files.
        processes: how many there are.
        local_process: rank among those of this machine.
        gradient_scale: what a loss is multiplied with, so that gradients are the sum over processes: as many as
            there are processes where gradients are averaged, 1 where they are added up.
        mixed_weights: whether weights may be of two precisions, and scalars: not where they are sharded.
    """

    device: torch.device
    process: int
    processes: int
    local_process: int
    gradient_scale: float
    mixed_weights: bool

    def prepare(self, module: TrainingModule, groups: list[dict[str, Any]]) -> tuple[Any, Optimizer]:
        """The module as it is to be called, and AdamW for it.

        Args:
            module: on any device.
            groups: parameter groups, with everything that AdamW is told.
        """

    def passing(self, called: Any, last: bool) -> AbstractContextManager[Any]:
        """Around a forward and backward pass; gradients are exchanged in the last of a step only."""

    def backward(self, loss: Tensor) -> None:
        """Adds gradients."""

    def clip(self, called: Any, most: float) -> float:
        """Scales the gradient down to a length; its length before."""

    def gather(self, value: Any) -> list[Any]:
        """A small object of every process, in each of them."""

    def wait(self) -> None:
        """Until every process is here."""

    def whole_tensors(self, called: Any) -> Mapping[str, Tensor]:
        """Trained tensors under the model's names, whole and on the CPU; every process must ask, process 0 is told."""

    def save(self, folder: Path, called: Any, optimizer: Optimizer) -> None:
        """Writes weights and optimiser into a folder; every process must ask."""

    def load(self, folder: Path, called: Any, optimizer: Optimizer) -> None:
        """Reads them back; every process must ask.

        Raises:
            InputError: the folder was written by another kind of run.
        """

    def close(self) -> None:
        """Ends what was begun for this run."""
