r"""Training states -> the adapter that the package ships.

    python -m openferret.train.stages.export --trunk STATE --language STATE --closer STATE \
        --out src/openferret/kit/adapter.safetensors

Matrices and kernels are kept in eight bits; vectors, small matrices and the rows of new words in float16.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from openferret import prompts
from openferret.errors import InputError
from openferret.kit.eight_bits import quantized, widened
from openferret.model.vision import fourier_features
from openferret.train.stages.language import LOCATION_WIDTH
from openferret.train.stages.states import plain_errors

FROZEN = (
    "model.vision_tower.published.",
    "model.vision_tower.trunk.stem",
    *(f"model.vision_tower.trunk.stages.{stage}." for stage in range(3)),
)
LORA_SCALE = 2.0
CLOSER_FROZEN = (
    "model.closer_look.trunk.stem",
    *(f"model.closer_look.trunk.stages.{stage}." for stage in range(3)),
)
_SMALL = 4096  # values: matrices of fewer are not worth rounding
TRUNK_PARTS = {
    "vision": "vision_tower",
    "locator": "locator",
    "proposer": "proposer",
    "sampler": "sampler",
    "namer": "namer",
}


def adapter_tensors(
    trunk: dict[str, Tensor], language: dict[str, Tensor], *, own_sampler: bool = False
) -> dict[str, Tensor]:
    """Tensors of the adapter, named as in `FerretForConditionalGeneration`; LoRA and new rows apart.

    Args:
        trunk: the averaged state of stage T.
        language: the trained part of stage L's state; its sampler replaces the trunk's.
        own_sampler: unless the trunk's is to stay, as that of an average which has moved since.
    """
    tensors = {}
    for name, tensor in trunk.items():
        part, _, rest = name.partition(".")
        if part in TRUNK_PARTS:
            tensors[f"model.{TRUNK_PARTS[part]}.{rest}"] = tensor
    for name, tensor in language.items():
        if name.startswith(("trunk.sampler.", "trunk.namer.")):
            if not own_sampler:
                tensors["model." + name.removeprefix("trunk.")] = tensor
        elif name.startswith(("projector.", "object_position.")) or name == "region_scale":
            tensors["model." + name] = tensor
        elif ".lora_" in name:
            layer = name.split("base_model.model.model.", 1)[1]
            layer = layer.replace(".lora_A.default.weight", ".down").replace(".lora_B.default.weight", ".up")
            tensors["lora." + layer] = tensor
    location = location_features() @ language["location.weight"].T + language["location.bias"]
    tensors["new_rows"] = torch.cat([language["special"], location])
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not name.startswith(FROZEN):
            kept |= _stored(name, tensor)
    return kept


def _stored(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A tensor as the adapter keeps it; a new word's row stands among published ones and is kept exactly."""
    rounded = (
        tensor.ndim > 1 and (tensor.numel() >= _SMALL or name.startswith("lora.")) and name != "new_rows"
    )
    if rounded:
        return quantized(name, tensor.detach().float())
    return {name: tensor.detach().to(torch.float16).contiguous()}


def closer_tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the adapter that make a closer look.

    Args:
        state: of `openferret.model.closer_look.CloserLook`; what its training leaves as published is not kept.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        full = f"model.closer_look.{name}"
        if not full.startswith(CLOSER_FROZEN):
            tensors |= _stored(full, tensor)
    return tensors


def trunk_tensors(adapter: dict[str, Tensor]) -> dict[str, Tensor]:
    """The way back for stage T: an adapter's tensors under the names of `TrunkModel`, float32."""
    adapter = widened(adapter)
    state: dict[str, Tensor] = {}
    for part, renamed in TRUNK_PARTS.items():
        start = f"model.{renamed}."
        state |= {
            f"{part}.{name.removeprefix(start)}": tensor.float()
            for name, tensor in adapter.items()
            if name.startswith(start)
        }
    return state


def language_tensors(adapter: dict[str, Tensor]) -> dict[str, Tensor]:
    """The way back for stage L: an adapter's tensors under the names of `LanguageModel`, float32."""
    adapter = widened(adapter)
    state = {}
    for name, tensor in adapter.items():
        if name.startswith("lora."):
            layer, _, part = name.removeprefix("lora.").rpartition(".")
            matrix = {"down": "lora_A", "up": "lora_B"}[part]
            state[f"language_model.base_model.model.model.{layer}.{matrix}.default.weight"] = tensor.float()
        elif name.startswith(("model.projector.", "model.object_position.")) or name == "model.region_scale":
            state[name.removeprefix("model.")] = tensor.float()
    rows, first = adapter["new_rows"].float(), len(prompts.SPECIAL_TOKENS)
    special, location = rows[:first], rows[first:]
    # The rows of the locations are linear in their Fourier features: the two parameters are solved for, by
    # singular values, for some of the features are almost the same.
    features = torch.nn.functional.pad(location_features(), (0, 1), value=1.0).double()
    solution = torch.linalg.lstsq(features, location.double(), rcond=1e-5, driver="gelsd").solution.float()
    return state | {"special": special, "location.weight": solution[:-1].T, "location.bias": solution[-1]}


def location_features() -> Tensor:
    """Fourier features of the location bins' middles, float [1000, LOCATION_WIDTH]."""
    bins = (torch.arange(prompts.LOCATION_BINS) + 0.5) / prompts.LOCATION_BINS
    return fourier_features(bins[:, None], LOCATION_WIDTH)


@plain_errors
def main() -> None:
    """Writes the adapter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trunk", type=Path, required=True)
    parser.add_argument("--language", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--side", type=int, default=320, help="of the pictures that it was trained on, in pixels"
    )
    parser.add_argument("--own-sampler", action="store_true", help="the trunk's sampler, not stage L's")
    parser.add_argument(
        "--closer", type=Path, help="state of `run_closer_look`; without it Kit looks once only"
    )
    options = parser.parse_args()
    trunk = torch.load(options.trunk, weights_only=True)
    language = torch.load(options.language, weights_only=True)
    metadata = {
        "lora_scale": str(LORA_SCALE),
        "trunk_steps": str(trunk["step"]),
        "language_steps": str(language.get("language_steps", language["step"])),
        "nouns": " ".join(trunk["heads"]),
        "image_size": str(options.side),
    }
    if "language_steps" in language:  # the state is stage R's
        metadata["reward_steps"] = str(language["step"])
    tensors = adapter_tensors(trunk["average"], language["model"], own_sampler=options.own_sampler)
    if options.closer is not None:
        closer = torch.load(options.closer, weights_only=True)
        if closer["heads"] != trunk["heads"]:
            raise InputError(f"{options.closer} knows other nouns; give one trained on the same data")
        tensors |= closer_tensors(closer["average"])
        metadata["closer_look_steps"] = str(closer["step"])
    save_file(tensors, options.out, metadata=metadata)


if __name__ == "__main__":
    main()
