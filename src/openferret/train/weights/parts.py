"""Which weights are trained, how fast, and how: whole, or through low-rank updates (LoRA)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from openferret.errors import InputError
from openferret.model.modeling import FerretForConditionalGeneration
from openferret.train.recipes.recipe import LoraRecipe, Part, TrainingRecipe

_LANGUAGE = "model.language_model."
_CLOSER_LOOK = "model.closer_look."  # has a stage of its own, and rests in every run
# Beginning of a tensor's name -> its part; the first that fits counts.
_PARTS: tuple[tuple[str, Part], ...] = (
    ("model.vision_tower.", "vision"),
    ("model.projector.", "projector"),
    ("model.sampler.", "sampler"),
    ("model.region_scale", "sampler"),
    ("model.namer.", "namer"),
    ("model.proposer.", "objects"),
    ("model.object_position.", "objects"),
    ("model.locator.", "locator"),
    (_LANGUAGE + "embed_tokens.", "embeddings"),
    ("lm_head.", "embeddings"),
    (_LANGUAGE, "language"),
)


def part_of(name: str) -> Part | None:
    """The part that a tensor of `FerretForConditionalGeneration` belongs to; None for what no recipe trains.

    >>> part_of("model.region_scale"), part_of("model.language_model.norm.weight")
    ('sampler', 'language')
    """
    if name.startswith(_CLOSER_LOOK):
        return None
    return next(part for start, part in _PARTS if name.startswith(start))


def is_update(name: str) -> bool:
    """Whether a tensor is of a low-rank update."""
    return ".lora_" in name


def choose_trained(model: FerretForConditionalGeneration, recipe: TrainingRecipe) -> dict[str, int]:
    """Adds low-rank updates if the recipe says so, freezes what is not trained; numbers trained, by part.

    Raises:
        InputError: the recipe trains a part that the model does not have.
    """
    if recipe.model.lora is not None:
        _add_updates(model, recipe.model.lora)
    trained: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = part_of(name)
        whole = part != "language" or recipe.model.lora is None or is_update(name)
        parameter.requires_grad_(part in recipe.rates and whole)
        if part is not None and parameter.requires_grad:
            trained[part] = trained.get(part, 0) + parameter.numel()
    if missing := [part for part in recipe.rates if part not in trained]:
        there = ", ".join(sorted({part for name, _ in model.named_parameters() if (part := part_of(name))}))
        raise InputError(f"the recipe trains {missing[0]!r}, which this model does not have; it has {there}")
    return trained


def halve_resting(model: FerretForConditionalGeneration) -> None:
    """Keeps frozen weights of the language model as bfloat16, for runs that compute in it.

    The vision side stays float32: boxes and coordinates are made there.
    """
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad and part_of(name) in ("language", "embeddings"):
            parameter.data = parameter.data.to(torch.bfloat16)


def widen_scalars(model: nn.Module) -> None:
    """Makes vectors of one number of a model's scalars, in place: torch cannot shard a weight without a dimension.

    What is computed with them stays the same, for one number is spread over any shape; `apply_trained` takes them
    back.

    >>> part = nn.Module()
    >>> part.scale = nn.Parameter(torch.tensor(2.0))
    >>> widen_scalars(part)
    >>> part.scale.shape
    torch.Size([1])
    """
    for module in model.modules():
        for name, one in list(module.named_parameters(recurse=False)):
            if not one.ndim:
                module.register_parameter(name, nn.Parameter(one.detach()[None], one.requires_grad))


def parameter_groups(module: nn.Module, recipe: TrainingRecipe, prefix: str = "") -> list[dict[str, object]]:
    """Groups for AdamW: each part, its matrices with decay and everything else without.

    Args:
        module: the model, or a module that holds it.
        recipe: with the rates.
        prefix: that the module puts before the model's names.
    """
    groups: dict[tuple[Part, bool], list[Tensor]] = {}
    for name, parameter in module.named_parameters():
        part = part_of(name.removeprefix(prefix))
        if part is not None and parameter.requires_grad:
            groups.setdefault((part, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": own,
            "lr": recipe.rates[part],
            "peak": recipe.rates[part],
            "part": part,
            "weight_decay": recipe.optimizer.weight_decay if decays else 0.0,
        }
        for (part, decays), own in sorted(groups.items())
    ]


@dataclass(frozen=True)
class Trained:
    """What a run changed.

    Attributes:
        tensors: whole tensors and updates, under the names of the model with its updates.
        lora: of the updates; None if there are none.
    """

    tensors: Mapping[str, Tensor]
    lora: LoraRecipe | None


def trained_tensors(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Those that have a gradient, as they are."""
    return {name: one.detach() for name, one in named if one.requires_grad}


@torch.no_grad()
def apply_trained(model: FerretForConditionalGeneration, trained: Trained) -> None:
    """Puts what was trained into the model that the run began with: updates are added to their matrices.

    The beginning is opened anew for it: during a run its frozen weights may be kept less precisely.
    """
    own = dict(model.named_parameters())
    for name, tensor in trained.tensors.items():
        if not is_update(name):
            own[name].copy_(tensor.view_as(own[name]))  # a scalar may have been sharded as a vector
        elif ".lora_A." in name and trained.lora is not None:
            up = trained.tensors[name.replace(".lora_A.", ".lora_B.")]
            layer = own[name.split(".lora_A.")[0] + ".weight"]
            layer.add_(trained.lora.alpha / trained.lora.rank * (up.float() @ tensor.float()))


def _add_updates(model: FerretForConditionalGeneration, lora: LoraRecipe) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise InputError("LoRA needs peft: pip install 'openferret[train]'") from None
    # Matrices alone: only their updates are added to them at the end.
    modules = model.model.language_model.named_modules()
    layers = {name.rpartition(".")[2] for name, one in modules if isinstance(one, torch.nn.Linear)}
    if unknown := [name for name in lora.targets if name not in layers]:
        raise InputError(
            f"model.lora.targets: the language model has no layer {unknown[0]!r}; it has "
            f"{', '.join(sorted(one for one in layers if one.endswith(('proj', 'fc', 'linear'))))}"
        )
    wanted = rf"model\.language_model\..*\.({'|'.join(lora.targets)})"
    inject_adapter_in_model(
        LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=wanted),
        model,
    )
