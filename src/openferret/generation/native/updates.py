"""What an adapter added to a model's weights, kept beside them in its folder.

The weights of a folder are whole: the adapter is in them already. The fast engine can store some weights without any
rounding if it knows what was added (`matrices.py`), so whoever merges an adapter may leave it here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from openferret.generation.native.matrices import LowRank

UPDATES_FILE = "low_rank.safetensors"


def write_updates(folder: Path, updates: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Writes the file.

    Args:
        folder: of the model.
        updates: `up` float [N, rank], scaled, and `down` float [rank, K] by the weight's name in `LlamaModel`.

    Raises:
        OSError: it cannot be written.
    """
    tensors = {
        f"{name}.{part}": one.half().contiguous()
        for name, pair in updates.items()
        for part, one in zip(("up", "down"), pair, strict=True)
    }
    save_file(tensors, folder / UPDATES_FILE, metadata={"format": "pt"})


def read_updates(folder: Path) -> dict[str, LowRank]:
    """The updates of a folder by the weights' names in `LlamaModel`; none where the file is missing.

    Raises:
        OSError: it cannot be read.
        SafetensorError: it is damaged.
    """
    if not (folder / UPDATES_FILE).is_file():
        return {}
    with safe_open(folder / UPDATES_FILE, framework="pt") as file:
        tensors = {name: file.get_tensor(name).float().numpy() for name in file.keys()}  # noqa: SIM118
    names = [name.removesuffix(".up") for name in tensors if name.endswith(".up")]
    return {name: LowRank(tensors[f"{name}.up"], tensors[f"{name}.down"]) for name in names}
