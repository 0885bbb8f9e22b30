"""A release of the reference, gathered from its folders and files: which stored tensors make which of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openferret.convert.checkpoint import StoredTensor, find_weights, list_tensors, read_json
from openferret.convert.configs import read_config
from openferret.convert.names import (
    PROJECTOR,
    SAMPLER,
    VISION,
    is_buffer,
    our_name,
    to_our_shape,
)
from openferret.convert.writing import PlannedTensor
from openferret.errors import WeightsError
from openferret.model.configuration import FerretConfig
from openferret.model.modeling import FerretForConditionalGeneration

_MOST_LISTED = 6
_DELTA_NORM = 0.05  # the weights of a norm are about 1, their differences about 0
_CLIP = "openai/clip-vit-large-patch14-336"
_FINAL_NORM = "model.norm.weight"
_GROWING = ("model.embed_tokens.weight", "lm_head.weight")


@dataclass(frozen=True)
class Sources:
    """Where the parts of a release lie.

    Attributes:
        weights: folder of deltas, of a merged checkpoint or of a training output.
        base: folder of the model that the deltas are to be added to; None without deltas.
        vision: folder of the vision tower, or of a whole CLIP; None for `weights`/vision_tower.
        projector: file with the projector only, in place of the one in `weights`.
        sampler: file with the region sampler only, likewise.
    """

    weights: Path
    base: Path | None = None
    vision: Path | None = None
    projector: Path | None = None
    sampler: Path | None = None


@dataclass(frozen=True)
class Release:
    """A release, checked: every tensor is there and has the shape that its configuration asks for.

    Attributes:
        config: ours.
        tensors: of our model, in the model's order.
        buffers: tensors of the checkpoint that have no place in ours, under their own names.
        files: every weight file that is read.
        holds_vision: the checkpoint itself holds a copy of the vision tower.
    """

    config: FerretConfig
    tensors: list[PlannedTensor]
    buffers: list[PlannedTensor]
    files: list[Path]
    holds_vision: bool


def weights_folder(folder: Path) -> Path:
    """The folder itself, or its `final-checkpoint`, whichever has the configuration.

    Raises:
        WeightsError: neither has one.
    """
    for one in (folder, folder / "final-checkpoint"):
        if (one / "config.json").is_file():
            return one
    raise WeightsError(f"there is no checkpoint in {folder}: expected a config.json and weights")


def gather(sources: Sources) -> Release:
    """Reads headers and configurations, and checks that they fit together.

    Raises:
        WeightsError: something is missing, unexpected, truncated, or of another model; it is named.
    """
    folder = weights_folder(sources.weights)
    stored = list_tensors(find_weights(folder))
    for part, prefix in ((sources.projector, PROJECTOR), (sources.sampler, SAMPLER)):
        if part is not None:
            stored |= _only(part, prefix)
    vision_folder, vision = _vision_tower(sources, folder, stored)
    paper = FerretConfig().vision_config.to_dict()
    vision_config = read_json(vision_folder / "config.json") if vision_folder else paper
    config = read_config(read_json(folder / "config.json"), vision_config)
    base = {} if sources.base is None else list_tensors(find_weights(sources.base))
    own = {name: one for name, one in stored.items() if not is_buffer(name)}
    embedded = {name for name in own if name.startswith(VISION)}
    language = {name: one for name, one in own.items() if name not in embedded}
    _check_kind(language, base, sources)
    tower = vision or {name: own[name] for name in embedded}
    planned = [_planned(name, one, _base_of(name, one, base, sources)) for name, one in language.items()]
    planned += [_planned(name, one, None) for name, one in tower.items() if not is_buffer(name)]
    files = {one.file for group in (stored, base, vision) for one in group.values()}
    return Release(
        config,
        _in_order(planned, config),
        [_buffer(one) for name, one in stored.items() if is_buffer(name)],
        sorted(files),
        bool(embedded),
    )


def meta_model(config: FerretConfig) -> FerretForConditionalGeneration:
    """A model without memory: names and shapes only."""
    with torch.device("meta"):
        return FerretForConditionalGeneration(config)


def _only(file: Path, prefix: str) -> dict[str, StoredTensor]:
    """The tensors of a projector-only or sampler-only file, whatever stands before their names."""
    part = prefix.removeprefix("model.")
    found = {
        f"model.{part}{name.split(part, 1)[1]}": one
        for name, one in list_tensors([file]).items()
        if part in name
    }
    if not found:
        raise WeightsError(f"{file} holds no tensor of {part.rstrip('.')}")
    return found


def _vision_tower(
    sources: Sources, folder: Path, stored: Mapping[str, StoredTensor]
) -> tuple[Path | None, dict[str, StoredTensor]]:
    """The folder of the vision tower, and its tensors under the names they would have in the checkpoint."""
    place = sources.vision or folder / "vision_tower"
    if sources.vision is None and not place.is_dir():
        if any(name.startswith(VISION) for name in stored):
            return None, {}
        raise WeightsError(
            f"there is no vision tower in {folder}, and the release has none: get {_CLIP} "
            "and name its folder with --vision"
        )
    tensors = list_tensors(find_weights(place))
    tower = {}
    for name, one in tensors.items():
        short = name.removeprefix("vision_model.")
        if name != short or not any("vision_model." in other for other in tensors):
            tower[f"{VISION}vision_model.{short}"] = one
    return place, tower


def _check_kind(
    language: Mapping[str, StoredTensor], base: Mapping[str, StoredTensor], sources: Sources
) -> None:
    """Deltas without a base, or a base for what is no delta: the last norm's weights tell."""
    norm = language.get(_FINAL_NORM)
    if norm is None:
        return
    size = norm.read().float().abs().mean()
    if sources.base is None and size < _DELTA_NORM:
        raise WeightsError(
            f"{sources.weights} holds differences to a base model, not weights: "
            "name the folder of Vicuna v1.3 with --base"
        )
    under = base.get(_FINAL_NORM)
    if under is not None and under.shape == norm.shape and size > under.read().float().abs().mean() / 2:
        raise WeightsError(f"{sources.weights} holds whole weights already: leave out --base")


def _base_of(
    name: str, delta: StoredTensor, base: Mapping[str, StoredTensor], sources: Sources
) -> StoredTensor | None:
    """The tensor that a delta is added to; None for what is stored whole."""
    if sources.base is None or name.startswith((PROJECTOR, SAMPLER)):
        return None
    under = base.get(name)
    if under is None:
        raise WeightsError(f"{sources.base} is not the base of {sources.weights}: it has no {name}")
    more_rows = name in _GROWING and delta.shape[0] > under.shape[0]
    fits = delta.shape[1:] == under.shape[1:] if more_rows else delta.shape == under.shape
    if not fits:
        raise WeightsError(
            f"{sources.base} is not the base of {sources.weights}: {name} is {list(under.shape)} there, "
            f"but {list(delta.shape)} in the deltas"
        )
    return under


def _planned(name: str, stored: StoredTensor, base: StoredTensor | None) -> PlannedTensor:
    ours = our_name(name)

    def make() -> Tensor:
        tensor = stored.read()
        if base is not None:
            # In the deltas' own precision, as the reference adds them; new words' rows have no base.
            under = base.read().to(tensor.dtype)
            tensor = torch.cat([tensor[: len(under)] + under, tensor[len(under) :]])
        return to_our_shape(ours or name, tensor)

    shape = tuple(to_our_shape(ours or name, torch.empty(stored.shape, device="meta")).shape)
    return PlannedTensor(ours or name, shape, stored.dtype, make)


def _buffer(stored: StoredTensor) -> PlannedTensor:
    return PlannedTensor(stored.name, stored.shape, stored.dtype, stored.read)


def _in_order(planned: Iterable[PlannedTensor], config: FerretConfig) -> list[PlannedTensor]:
    """The planned tensors in the model's order; WeightsError unless they are the model's, by name and shape."""
    found = {one.name: one for one in planned}
    expected: dict[str, Any] = {
        name: tuple(one.shape) for name, one in meta_model(config).state_dict().items()
    }
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    if missing or unexpected:
        said = [f"missing: {_listed(missing)}"] * bool(missing)
        said += [f"unexpected: {_listed(unexpected)}"] * bool(unexpected)
        raise WeightsError(f"the checkpoint's tensors are not those of a Ferret; {'; '.join(said)}")
    for name, shape in expected.items():
        if found[name].shape != shape:
            raise WeightsError(
                f"{name} is {list(found[name].shape)} in the checkpoint, "
                f"but its configuration asks for {list(shape)}"
            )
    return [found[name] for name in expected]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more
