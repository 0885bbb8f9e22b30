"""Weight files that whoever may read a model folder may read too."""

from __future__ import annotations

import stat
from pathlib import Path


def share_weights(folder: Path) -> None:
    """Gives the weights of a model folder the permissions of the configuration beside them.

    safetensors writes files that only their owner may read: a cache made by an administrator, or a model put where
    colleagues find it, could not be opened by anybody else.

    Args:
        folder: with `config.json`; every `*.safetensors` in it is changed.

    Raises:
        OSError: the folder cannot be changed.
    """
    permissions = stat.S_IMODE((folder / "config.json").stat().st_mode)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(permissions)
