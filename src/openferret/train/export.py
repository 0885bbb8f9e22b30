"""Training states -> the adapter that the package ships.

python -m openferret.train.export --trunk STATE --language STATE --out src/openferret/kit/adapter.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from openferret import prompts
from openferret.model.vision import fourier_features
from openferret.train.language import LOCATION_WIDTH

FROZEN = (
    "model.vision_tower.trunk.stem",
    *(f"model.vision_tower.trunk.stages.{stage}." for stage in range(3)),
)
LORA_SCALE = 2.0


def adapter_tensors(trunk: dict[str, Tensor], language: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the adapter, named as in `FerretForConditionalGeneration`; LoRA and new rows apart.

    Args:
        trunk: the averaged state of stage T.
        language: the trained part of stage L's state; its sampler replaces the trunk's.
    """
    tensors = {}
    for name, tensor in trunk.items():
        part, _, rest = name.partition(".")
        renamed = {
            "vision": "vision_tower",
            "locator": "locator",
            "proposer": "proposer",
            "sampler": "sampler",
        }
        if part in renamed:
            tensors[f"model.{renamed[part]}.{rest}"] = tensor
    for name, tensor in language.items():
        if name.startswith("trunk.sampler."):
            tensors["model." + name.removeprefix("trunk.")] = tensor
        elif name.startswith(("projector.", "object_position.")) or name == "region_scale":
            tensors["model." + name] = tensor
        elif ".lora_" in name:
            layer = name.split("base_model.model.model.", 1)[1]
            layer = layer.replace(".lora_A.default.weight", ".down").replace(".lora_B.default.weight", ".up")
            tensors["lora." + layer] = tensor
    bins = (torch.arange(prompts.LOCATION_BINS) + 0.5) / prompts.LOCATION_BINS
    features = fourier_features(bins[:, None], LOCATION_WIDTH)
    location = features @ language["location.weight"].T + language["location.bias"]
    tensors["new_rows"] = torch.cat([language["special"], location])
    return {
        name: tensor.detach().to(torch.float16).contiguous()
        for name, tensor in tensors.items()
        if not name.startswith(FROZEN)
    }


def main() -> None:
    """Writes the adapter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trunk", type=Path, required=True)
    parser.add_argument("--language", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    trunk = torch.load(options.trunk, weights_only=True)
    language = torch.load(options.language, weights_only=True)
    metadata = {
        "lora_scale": str(LORA_SCALE),
        "trunk_steps": str(trunk["step"]),
        "language_steps": str(language["step"]),
    }
    save_file(adapter_tensors(trunk["average"], language["model"]), options.out, metadata=metadata)


if __name__ == "__main__":
    main()
