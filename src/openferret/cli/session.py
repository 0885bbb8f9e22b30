"""The one place where the command loads a model."""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from rich.console import Console

from openferret.errors import InputError

if TYPE_CHECKING:
    from openferret.cli.options import Settings
    from openferret.predictor import Ferret


def check_settings(settings: Settings) -> None:
    """Refuse what can be seen to be wrong without loading anything: InputError."""
    if not re.fullmatch(r"cpu|mps|cuda(:\d{1,3})?", settings.device):
        raise InputError(f"--device must be cpu, cuda, cuda:N or mps, not {settings.device!r}")
    if settings.engine not in (None, "auto", "fast", "reference"):
        raise InputError(f"--engine must be auto, fast or reference, not {settings.engine!r}")
    if not settings.model.strip():
        raise InputError("--model is empty: give kit or a model folder")


def load_model(settings: Settings) -> Ferret:
    """Load the model that the settings name, saying so if somebody is watching.

    Raises:
        WeightsError: Its weights are missing or damaged.
    """
    with (
        Console(stderr=True).status(f"loading {settings.model} ...") if sys.stderr.isatty() else nullcontext()
    ):
        from openferret.predictor import Ferret

        return Ferret.load(settings.model, device=settings.device, seed=settings.seed, engine=settings.engine)
