"""What lmms-eval finds by the entry point `lmms_eval.models`: the name `openferret` and where its class is.

lmms-eval's requirements do not go together with this package's torch: the adapter is tested against stand-ins
of its base class and registry (0.7), never beside the real package.
"""

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """The `ModelManifest` of `--model openferret`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("openferret", simple_class_path="openferret.eval.lmms_model.OpenFerret")
