"""Other makers' models inside this process: `--model hf:FOLDER`, a folder as transformers saves them.

One file a family: how it is asked, and how it writes boxes. Weights are safetensors, no code of the folder is
run, nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from openferret.errors import InputError
from openferret.eval.files import read_json

if TYPE_CHECKING:  # options are read without torch
    from openferret.eval.peers.base import Peer

PREFIX = "hf:"
FAMILIES: Mapping[str, tuple[str, str]] = {
    "kosmos-2": ("kosmos", "Kosmos"),
    "florence2": ("florence", "Florence"),
    "qwen2_5_vl": ("qwen", "Qwen25"),
    "qwen3_vl": ("qwen", "Qwen3"),
    "qwen3_vl_moe": ("qwen", "Qwen3"),
}
"""`model_type` of a folder's config.json -> file and class here."""


def load_peer(folder: Path, device: str = "cpu") -> Peer:
    """Opens a folder by the family that its config.json names.

    Raises:
        InputError: no such folder, a family without an adapter, or files that transformers cannot open.
    """
    config = read_json(folder / "config.json")
    family = str(config.get("model_type")) if isinstance(config, dict) else "unknown"
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise InputError(f"{folder} holds a model of type {family[:40]!r}; there are adapters for {known}")
    file, name = FAMILIES[family]
    peer: type[Peer] = getattr(import_module(f"openferret.eval.peers.{file}"), name)
    return peer(folder, device)
