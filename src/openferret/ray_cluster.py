"""A Ray cluster: the one of `RAY_ADDRESS`, or one that is started here and wants a token of whoever calls."""

from __future__ import annotations

import importlib
import os
from typing import Any

from openferret.errors import InputError

_STORE_BYTES = 1_000_000_000


def connect(part: str) -> tuple[Any, bool]:
    """Ray, connected, and whether its cluster was started here and is to be ended here.

    Args:
        part: of Ray that is needed, "serve" or "data"; each has an extra of its own.

    Raises:
        InputError: Ray is not installed, its cluster cannot be reached, or it would be open to all.
    """
    # Else Ray starts another cluster by itself when it is called after its end.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    try:
        import ray

        importlib.import_module(f"ray.{part}")
    except ImportError:
        raise InputError("--engine ray needs Ray: pip install 'openferret[ray]'") from None
    if ray.is_initialized():
        return ray, False
    address = os.environ.get("RAY_ADDRESS")
    if not address and os.environ.get("RAY_AUTH_MODE", "token") != "token":
        raise InputError(
            "Ray listens on every address: with RAY_AUTH_MODE other than token it is open to all"
        )
    try:
        if address:
            ray.init(address=address, log_to_driver=False)
        else:
            ray.init(
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=_STORE_BYTES,
                _system_config={"worker_niceness": 0},  # a model that people wait for is no background work
            )
    except Exception as error:  # Ray raises that very class where a node does not start in time
        raise InputError(f"the Ray cluster cannot be reached ({type(error).__name__})") from None
    return ray, not address
