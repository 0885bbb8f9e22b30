"""Where a stage computes, and the batches that are made beside it.

A stage runs on a processor as it is; `--device cuda` takes an accelerator, which then waits for its batches unless
`--workers` processes make them in advance. A batch depends on the seed and the step alone, so both give the same.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from openferret.errors import InputError
from openferret.train.processes.precision import computes_in_bfloat16

T = TypeVar("T")
_AHEAD = 3  # batches that each worker has ready


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--device` and `--workers`."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")
    parser.add_argument(
        "--workers", type=_count, default=0, help="processes that make batches in advance; for accelerators"
    )


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise argparse.ArgumentTypeError(f"{count} is less than 0")
    return count


def open_device(name: str) -> torch.device:
    """The device of that name, ready for training; on CUDA, products of float32 matrices may round to TF32.

    Raises:
        InputError: there is no such device here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"--device {name} cannot be used here ({reason}); --device cpu always can"
        ) from error
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    return device


def half_precision(device: torch.device) -> torch.autocast:
    """Mixed precision in bfloat16 on a device that computes in it, else none."""
    return torch.autocast(device.type, torch.bfloat16, enabled=computes_in_bfloat16(device))


def moved(value: T, device: torch.device) -> T:
    """The same with all tensors on a device: a tensor, or a dataclass, dictionary, tuple or list that holds some.

    Example:
        >>> moved((torch.zeros(2), "two"), torch.device("cpu"))
        (tensor([0., 0.]), 'two')
    """
    return _moved(value, device)  # type: ignore[no-any-return]


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        # On its way to a processor it could be read before it is there.
        return value.to(device, non_blocking=device.type != "cpu")
    if isinstance(value, dict):
        return {name: _moved(one, device) for name, one in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_moved(one, device) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: _moved(getattr(value, one.name), device) for one in fields(value)})
    return value


class _Steps(Dataset[T], Generic[T]):
    def __init__(self, make: Callable[[int], T]) -> None:
        self._make = make

    def __getitem__(self, step: int) -> T:
        return self._make(step)


def batches(make: Callable[[int], T], first: int, workers: int) -> Iterator[T]:
    """The batches of steps `first`, `first + 1` and so on, without end.

    Args:
        make: gives the batch of a step; runs in the workers, and must not touch an accelerator.
        first: step to begin with.
        workers: processes that make batches in advance; 0 makes each when it is asked for.

    Example:
        >>> made = batches(lambda step: step * step, 3, workers=0)
        >>> next(made), next(made)
        (9, 16)
    """
    if workers < 0:
        raise InputError(f"--workers must be 0 or more, not {workers}")
    if workers == 0:
        return map(make, itertools.count(first))
    loader = DataLoader(
        _Steps(make),
        batch_size=None,
        sampler=range(first, 2**40),
        num_workers=workers,
        prefetch_factor=_AHEAD,
        multiprocessing_context="fork",
    )
    return iter(loader)
