"""Opens a model folder: Kit's, which is made where it is missing, or any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers.utils import logging

from openferret.auto import FerretConfig, FerretForConditionalGeneration, FerretProcessor
from openferret.errors import InputError, WeightsError
from openferret.kit.assemble import ensure_kit

# What transformers raises on files that are damaged or of another kind.
_UNUSABLE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError),
    *(SafetensorError, StrictDataclassError),
)


@dataclass(frozen=True)
class LoadedModel:
    """A model, ready to be asked.

    Attributes:
        model: in evaluation mode.
        processor: the model's own.
        name: of the model, as answers give it.
    """

    model: FerretForConditionalGeneration
    processor: FerretProcessor
    name: str


def load_model(
    model: str | Path, device: str = "cpu", dtype: torch.dtype | None = None, seed: int = 0
) -> LoadedModel:
    """Opens a model and its processor.

    Args:
        model: "kit" or a folder that `save_pretrained` of both has written.
        device: "cpu", "cuda", "cuda:1", "mps", ...
        dtype: of the weights; None for float32 on a CPU and bfloat16 elsewhere.
        seed: of the points drawn in regions.

    Raises:
        InputError: a device that this machine does not have.
        WeightsError: no such folder, or weights that are missing, damaged or of another kind.
    """
    place = _checked_device(device)
    folder = ensure_kit() if str(model) == "kit" else Path(model)
    _check_folder(folder)
    wanted = dtype or (torch.float32 if place.type == "cpu" else torch.bfloat16)
    try:
        with _silence():
            opened, said = FerretForConditionalGeneration.from_pretrained(
                folder, dtype=wanted, local_files_only=True, output_loading_info=True
            )
            processor = FerretProcessor.from_pretrained(folder, local_files_only=True)
    except _UNUSABLE as problem:
        reason = str(problem).strip().split("\n")[0] or type(problem).__name__
        raise WeightsError(f"the model in {folder} cannot be opened: {reason}") from problem
    if said["missing_keys"] or said["mismatched_keys"]:
        raise WeightsError(f"the model in {folder} lacks some of its weights; fetch or copy it again")
    processor.seed = seed
    return LoadedModel(opened.to(place).eval(), processor, Path(model).resolve().name)


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps transformers from drawing bars and long reports: what is wrong is said in one line."""
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _check_folder(folder: Path) -> None:
    """Looks before anything is built: a folder of another kind would be filled with random weights."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except OSError:
        raise WeightsError(
            f"there is no model in {folder}: give 'kit' or a folder with a config.json"
        ) from None
    except (ValueError, AttributeError):
        raise WeightsError(f"the config.json in {folder} is damaged") from None
    if kind != FerretConfig.model_type:
        raise WeightsError(f"the model in {folder} is a {kind!r}, not an OpenFerret model")
    for needed in ("*.safetensors", "processor_config.json"):  # without the latter its defaults would be used
        if not any(folder.glob(needed)):
            raise WeightsError(f"the model in {folder} is not whole: there is no {needed}")


def _checked_device(name: str) -> torch.device:
    """The device, once it has held a number."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InputError(f"this machine has no device {name!r} that can be used; try 'cpu'") from None
    return device
