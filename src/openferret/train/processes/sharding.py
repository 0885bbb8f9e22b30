"""Fully sharded training through torch alone: every process keeps a part of each weight, gradient and moment.

accelerate enters FSDP on accelerators only; this runs on CPUs too (`sharding: fully_shard`), and is how sharding is
tested: weights are DTensors, losses match one process, and a checkpoint may be read by another number of processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer

from openferret.errors import InputError
from openferret.train.objectives.module import PREFIX, TrainingModule

_SHARDS = "sharded"


class ShardedParallel:
    """See `openferret.train.processes.parallel.Parallel`."""

    gradient_scale = 1.0  # gradients are added up: gloo cannot average
    mixed_weights = False

    def __init__(self, half: bool) -> None:
        cuda = torch.cuda.is_available()
        if not dist.is_initialized():
            if not dist.is_torchelastic_launched():
                raise InputError(
                    "sharding: fully_shard needs a launcher: openferret train RECIPE --processes N, or torchrun"
                )
            dist.init_process_group("nccl" if cuda else "gloo")
        self.process, self.processes = dist.get_rank(), dist.get_world_size()
        self.local_process = dist.get_node_local_rank(self.process)
        self.device = torch.device("cuda", self.local_process) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(self.device)
        self._mesh = init_device_mesh(self.device.type, (self.processes,))
        self._half = half

    def prepare(self, module: TrainingModule, groups: list[dict[str, Any]]) -> tuple[Any, Optimizer]:
        """See `Parallel.prepare`."""
        names = {parameter: name for name, parameter in module.named_parameters()}
        named = [[names[parameter] for parameter in group["params"]] for group in groups]
        shard(module, self._mesh, self._half)  # which moves each part to its device
        own = dict(module.named_parameters())  # DTensors now, under the same names
        sharded = [
            {**group, "params": [own[name] for name in wanted]}
            for group, wanted in zip(groups, named, strict=True)
        ]
        return module, AdamW(sharded)

    def passing(self, called: Any, last: bool) -> AbstractContextManager[Any]:
        """See `Parallel.passing`; gradients are exchanged in every pass, or each process would hold them whole."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """See `Parallel.backward`."""
        loss.backward()  # type: ignore[no-untyped-call]

    def clip(self, called: Any, most: float) -> float:
        """See `Parallel.clip`."""
        gradients = [one.grad for one in called.parameters() if one.grad is not None]
        parts = [one.to_local() for one in gradients]
        squares = torch.zeros((), device=self.device)
        for part in parts:
            squares += part.float().square().sum()
        dist.all_reduce(squares)
        length = float(squares.sqrt())
        for part in parts:
            part.mul_(min(most / (length + 1e-6), 1.0))
        return length

    def gather(self, value: Any) -> list[Any]:
        """See `Parallel.gather`."""
        gathered: list[Any] = [None] * self.processes
        dist.all_gather_object(gathered, value)
        return gathered

    def wait(self) -> None:
        """See `Parallel.wait`."""
        self.gather(None)

    def whole_tensors(self, called: Any) -> Mapping[str, Tensor]:
        """See `Parallel.whole_tensors`."""
        return gather_tensors(called)

    def save(self, folder: Path, called: Any, optimizer: Optimizer) -> None:
        """See `Parallel.save`."""
        save_shards(folder / _SHARDS, called, optimizer)

    def load(self, folder: Path, called: Any, optimizer: Optimizer) -> None:
        """See `Parallel.load`."""
        if not (folder / _SHARDS).is_dir():
            raise InputError(
                f"the checkpoint {folder} was not written by a sharded run; resume it as it was begun"
            )
        load_shards(folder / _SHARDS, called, optimizer)

    def close(self) -> None:
        """See `Parallel.close`."""
        if dist.is_initialized():
            dist.destroy_process_group()


def shard(module: TrainingModule, mesh: DeviceMesh, half: bool) -> None:
    """Shards a module in place: each layer of the language model and of the tower, then all the rest together.

    Gradients are added up over the processes, not averaged.

    Args:
        module: on the mesh's device, or on "meta"; without scalars (`openferret.train.weights.parts.widen_scalars`).
        mesh: of one dimension.
        half: whether weights are gathered and used as bfloat16.
    """
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16 if half else None, reduce_dtype=torch.float32)
    body = module.model.model
    layers = [*body.language_model.layers, *_tower_layers(body.vision_tower)]
    for part in layers:
        fully_shard(part, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy)
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)


def gather_tensors(module: Any) -> dict[str, Tensor]:
    """Trained tensors under the model's names, whole and on the CPU; every process must ask, the first is told."""
    gathered = {}
    for name, one in module.named_parameters():
        if one.requires_grad:
            whole = _whole(one.detach())
            if dist.get_rank() == 0:
                gathered[name.removeprefix(PREFIX)] = whole.cpu()
    return gathered


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def save_shards(folder: Path, module: Any, optimizer: Optimizer) -> None:
    """Each process writes its part of what is trained."""
    weights, moments = get_state_dict(module, optimizer, options=_TRAINED)
    save({"weights": weights, "optimizer": moments}, checkpoint_id=folder)


def load_shards(folder: Path, module: Any, optimizer: Optimizer) -> None:
    """Each process reads its part, whatever number of processes wrote the folder."""
    weights, moments = get_state_dict(module, optimizer, options=_TRAINED)
    # A weight that never had a gradient has no moments in the folder; its files are verified, so nothing else lacks.
    planner = DefaultLoadPlanner(allow_partial_load=True)
    load({"weights": weights, "optimizer": moments}, checkpoint_id=folder, planner=planner)
    set_state_dict(
        module,
        optimizer,
        model_state_dict=weights,
        optim_state_dict=moments,
        options=_TRAINED,
    )


_TRAINED = StateDictOptions(ignore_frozen_params=True, strict=False)


def _tower_layers(tower: Any) -> list[Any]:
    encoder = getattr(getattr(tower, "vision_model", tower), "encoder", None)
    return list(getattr(encoder, "layers", None) or getattr(encoder, "layer", None) or ())
