"""Opens a model folder: Kit's, which is made where it is missing, or any other."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from openferret.checks import check_kind, whole_number
from openferret.errors import InputError, WeightsError
from openferret.generation.engines import LanguageEngine, engine_of
from openferret.kit.assemble import ensure_kit
from openferret.light import NotLightError, open_light

if TYPE_CHECKING:
    from openferret.model.modeling import FerretForConditionalGeneration
    from openferret.processing.processor import FerretProcessor

ENGINES = ("auto", "fast", "reference")
_KIND = "openferret_ferret"  # FerretConfig.model_type
# What is raised on files that are damaged or of another kind.
_UNUSABLE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError),
    SafetensorError,
)


@dataclass(frozen=True)
class LoadedModel:
    """A model, ready to be asked.

    Attributes:
        model: in evaluation mode; `FerretForConditionalGeneration`, or for the fast engine a `LightFerret`,
            which has its `config`, `device` and `model` (`FerretBody`), but is none of transformers'.
        processor: the model's own.
        name: of the model, as answers give it.
    """

    model: Any
    processor: Any
    name: str

    @property
    def engine(self) -> LanguageEngine:
        """What runs its language model."""
        return engine_of(self.model)


def load_model(
    model: str | Path,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    seed: int = 0,
    engine: str | None = None,
) -> LoadedModel:
    """Opens a model and its processor.

    Args:
        model: "kit" or a folder that `save_pretrained` of both has written.
        device: "cpu", "cuda", "cuda:1", "mps", ...
        dtype: of the weights; None for float32 on a CPU and bfloat16 elsewhere.
        seed: of the points drawn in regions.
        engine: "fast" (4- or 8-bit weights, on a CPU), "reference" (transformers), or "auto": fast where it can be
            had, was measured to be faster and no dtype is given. None: what the environment's OPENFERRET_ENGINE says,
            else "auto".

    Raises:
        InputError: a device or an engine that this machine does not have, or a seed or dtype that is none.
        WeightsError: no such folder, or weights that are missing, damaged or of another kind.
    """
    check_kind(model, "a model", str, Path)
    seed = whole_number(seed, "seed", at_least=0)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError(f"dtype must be a floating type of PyTorch, such as torch.bfloat16, not {dtype!r}")
    chosen = _checked_engine(engine)
    place = _checked_device(device)
    folder = ensure_kit() if str(model) == "kit" else Path(model)
    _check_folder(folder)
    opened, processor = _open(folder, chosen, place, dtype)
    processor.seed = seed
    return LoadedModel(opened, processor, Path(model).resolve().name)


def _open(folder: Path, engine: str, place: torch.device, dtype: torch.dtype | None) -> tuple[Any, Any]:
    wants_light = engine == "fast" or (engine == "auto" and dtype is None)
    try:
        if wants_light:
            if place.type != "cpu" or dtype is not None:
                raise NotLightError("it runs on a CPU, in its own precision")
            return open_light(folder, asked_for=engine == "fast")
    except NotLightError as reason:
        if engine == "fast":
            raise InputError(f"the fast engine cannot run this model here: {reason}") from None
    except _UNUSABLE as problem:
        raise _cannot_open(folder, problem) from problem
    return _open_reference(folder, place, dtype)


def _open_reference(
    folder: Path, place: torch.device, dtype: torch.dtype | None
) -> tuple[FerretForConditionalGeneration, FerretProcessor]:
    from huggingface_hub.errors import StrictDataclassError

    from openferret.auto import FerretForConditionalGeneration, FerretProcessor

    wanted = dtype or (torch.float32 if place.type == "cpu" else torch.bfloat16)
    try:
        with _silence():
            opened, said = FerretForConditionalGeneration.from_pretrained(
                folder,
                dtype=wanted,
                local_files_only=True,
                use_safetensors=True,  # pickles are opened by `openferret convert` alone
                output_loading_info=True,
            )
            processor = FerretProcessor.from_pretrained(folder, local_files_only=True)
    except (*_UNUSABLE, StrictDataclassError) as problem:
        raise _cannot_open(folder, problem) from problem
    if said["missing_keys"] or said["mismatched_keys"]:
        raise WeightsError(f"the model in {folder} lacks some of its weights; fetch or copy it again")
    return opened.to(place).eval(), processor


def _cannot_open(folder: Path, problem: Exception) -> WeightsError:
    reason = str(problem).strip().split("\n")[0] or type(problem).__name__
    return WeightsError(f"the model in {folder} cannot be opened: {reason}")


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps transformers from drawing bars and long reports: what is wrong is said in one line."""
    from transformers.utils import logging

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
    if kind != _KIND:
        raise WeightsError(f"the model in {folder} is a {kind!r}, not an OpenFerret model")
    for needed in ("*.safetensors", "processor_config.json"):  # without the latter its defaults would be used
        if not any(folder.glob(needed)):
            raise WeightsError(f"the model in {folder} is not whole: there is no {needed}")


def _checked_engine(name: str | None) -> str:
    wanted = name or os.environ.get("OPENFERRET_ENGINE") or "auto"
    if wanted not in ENGINES:
        raise InputError(f"an engine is one of {', '.join(ENGINES)}, not {wanted!r}")
    return wanted


def _checked_device(name: str) -> torch.device:
    """The device, once it has held a number."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" holds none
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ImportError):
        raise InputError(f"this machine has no device {name!r} that can be used; try 'cpu'") from None
    return device
