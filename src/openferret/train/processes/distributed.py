"""Parallelism through accelerate: one process, DDP, FSDP2 or DeepSpeed, as `accelerate launch` was configured.

One process and DDP write plain files (safetensors, and the optimiser's state without code in it). FSDP2 writes
torch's sharded checkpoints, DeepSpeed its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import DistributedType
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed import all_gather_object
from torch.optim import AdamW, Optimizer

from openferret.errors import InputError
from openferret.train.objectives.module import PREFIX, TrainingModule
from openferret.train.recipes.recipe import TrainingRecipe
from openferret.train.weights.parts import trained_tensors

_MAY_REST = {"vision", "namer", "objects", "locator"}
_PATIENCE = timedelta(minutes=30)  # a rank may be filling its share of the feature cache
_WEIGHTS, _OPTIMIZER, _SHARDS, _DEEPSPEED = "weights.safetensors", "optimizer.pt", "sharded", "deepspeed"


class AccelerateParallel:
    """See `openferret.train.processes.parallel.Parallel`."""

    def __init__(self, recipe: TrainingRecipe) -> None:
        # Some weights of these may have no loss: proposals without an objective of their own, a tower's last layer.
        unused = DistributedDataParallelKwargs(find_unused_parameters=bool(_MAY_REST & set(recipe.rates)))
        self._accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            kwargs_handlers=[unused, InitProcessGroupKwargs(timeout=_PATIENCE)],
        )
        place = self._accelerator.device
        self.device = (
            torch.device("cpu") if place.type == "cpu" else place
        )  # not "cpu:0", which files do not know
        self.process = self._accelerator.process_index
        self.processes = self._accelerator.num_processes
        self.local_process = self._accelerator.local_process_index
        self.gradient_scale = float(self.processes)
        self._kind = self._accelerator.distributed_type
        self.mixed_weights = self._kind not in (DistributedType.FSDP, DistributedType.DEEPSPEED)

    def prepare(self, module: TrainingModule, groups: list[dict[str, Any]]) -> tuple[Any, Optimizer]:
        """See `Parallel.prepare`."""
        called, optimizer = self._accelerator.prepare(module, AdamW(groups))
        return called, optimizer

    def passing(self, called: Any, last: bool) -> AbstractContextManager[Any]:
        """See `Parallel.passing`."""
        if self._kind is DistributedType.FSDP:  # put off, each process would hold the gradients whole
            return nullcontext()
        if self._kind is DistributedType.DEEPSPEED:  # its engine changes the weights within `backward`
            self._accelerator.gradient_state._set_sync_gradients(last)
            return nullcontext()
        context: AbstractContextManager[Any] = nullcontext() if last else self._accelerator.no_sync(called)
        return context

    def backward(self, loss: Tensor) -> None:
        """See `Parallel.backward`."""
        self._accelerator.backward(loss)

    def clip(self, called: Any, most: float) -> float:
        """See `Parallel.clip`."""
        length = self._accelerator.clip_grad_norm_(called.parameters(), most)
        return 0.0 if length is None else float(length)

    def gather(self, value: Any) -> list[Any]:
        """See `Parallel.gather`."""
        if self.processes == 1:
            return [value]
        gathered: list[Any] = [None] * self.processes
        all_gather_object(gathered, value)
        return gathered

    def wait(self) -> None:
        """See `Parallel.wait`."""
        if self.processes > 1:
            self.gather(None)

    def whole_tensors(self, called: Any) -> Mapping[str, Tensor]:
        """See `Parallel.whole_tensors`."""
        if self._kind is DistributedType.FSDP:
            from openferret.train.processes.sharding import gather_tensors

            return gather_tensors(called)
        if self._kind is DistributedType.DEEPSPEED:
            names = {name for name, one in called.module.named_parameters() if one.requires_grad}
            whole = self._accelerator.get_state_dict(called)
            return {name.removeprefix(PREFIX): one.cpu() for name, one in whole.items() if name in names}
        return _own_tensors(self._accelerator.unwrap_model(called))

    def save(self, folder: Path, called: Any, optimizer: Optimizer) -> None:
        """See `Parallel.save`."""
        if self._kind is DistributedType.FSDP:
            from openferret.train.processes.sharding import save_shards

            save_shards(folder / _SHARDS, called, _plain(optimizer))
        elif self._kind is DistributedType.DEEPSPEED:
            self._accelerator.save_state(str(folder / _DEEPSPEED))
        elif self.process == 0:
            tensors = {
                name: one.contiguous()
                for name, one in _own_tensors(self._accelerator.unwrap_model(called)).items()
            }
            save_file(tensors, folder / _WEIGHTS)
            torch.save(optimizer.state_dict(), folder / _OPTIMIZER)

    def load(self, folder: Path, called: Any, optimizer: Optimizer) -> None:
        """See `Parallel.load`."""
        expected = {DistributedType.FSDP: _SHARDS, DistributedType.DEEPSPEED: _DEEPSPEED}.get(
            self._kind, _WEIGHTS
        )
        if not (folder / expected).exists():
            raise InputError(
                f"the checkpoint {folder} was written by a run of another kind (it has no {expected}): start it with "
                "the launch configuration that it was begun with"
            )
        if self._kind is DistributedType.FSDP:
            from openferret.train.processes.sharding import load_shards

            load_shards(folder / _SHARDS, called, _plain(optimizer))
        elif self._kind is DistributedType.DEEPSPEED:
            self._accelerator.load_state(str(folder / _DEEPSPEED))
        else:
            own = dict(self._accelerator.unwrap_model(called).named_parameters())
            with torch.no_grad():
                for name, tensor in load_file(folder / _WEIGHTS).items():
                    own[PREFIX + name].copy_(tensor)
            optimizer.load_state_dict(
                torch.load(folder / _OPTIMIZER, map_location=self.device, weights_only=True)
            )

    def close(self) -> None:
        """See `Parallel.close`."""
        self._accelerator.free_memory()
        if self.processes > 1:
            self._accelerator.end_training()


def _own_tensors(module: Any) -> dict[str, Tensor]:
    named = ((name.removeprefix(PREFIX), one) for name, one in module.named_parameters())
    return {name: one.cpu() for name, one in trained_tensors(named).items()}


def _plain(optimizer: Any) -> Optimizer:
    inner: Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner
