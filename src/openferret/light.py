"""A model folder opened without transformers, whose imports alone take seconds: for the fast engine.

The folder's own files are read: its configuration, tokenizer and safetensors (memory-mapped). What is made of them
once is kept in the cache folder: the language model in four or eight bits, and the configuration with its defaults.
It is found again by the path, sizes and times of the model's files, for hashing 300 MB would cost more than the rest.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from openferret.errors import WeightsError
from openferret.generation.native.engine import NativeEngine
from openferret.generation.native.library import MEASURED, PLAIN, NoLibraryError, library
from openferret.generation.native.packing import (
    VERSION,
    PackedWeights,
    gathered,
    packed_arrays,
    read_packed,
    shape_of,
    why_not,
    write_packed,
)
from openferret.generation.native.updates import UPDATES_FILE, read_updates
from openferret.model.body import FerretBody
from openferret.model.sizes import PlainConfig
from openferret.model.trunk import EfficientNetLite
from openferret.processing.preparing import Preparing

_WEIGHTS = "model.safetensors"
_LANGUAGE = "model.language_model."
_TOWER = "openferret_efficientnet_lite"
_PACKED = ".packed"
_SOURCE = "made_from"  # beside a configuration's values: the model folder
_FILES = (
    _WEIGHTS,
    UPDATES_FILE,
    "config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


class NotLightError(Exception):
    """This model, or this machine, is not one for the fast engine; the message says why."""


class LightBody(FerretBody):
    """Ferret's body; of the language model it holds only the word embeddings, as the file stores them."""

    def __init__(self, config: PlainConfig, table: Tensor) -> None:
        super().__init__()
        self.config = config
        self._build(config, EfficientNetLite(config.vision_config))  # type: ignore[arg-type]
        self.table = WordTable(table)

    def get_input_embeddings(self) -> nn.Module:
        """Words' vectors, in float32."""
        return self.table


class WordTable(nn.Module):
    """Rows of a table that may be half precision and mapped from a file: only what is asked for is read."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", table, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids int64 [...] -> float32 [..., H]."""
        return functional.embedding(ids, self.get_buffer("weight")).float()


class LightFerret:
    """What can be asked: a body and the engine of its language model.

    Args:
        model: the body, in evaluation mode.
        engine: of the language model.
    """

    def __init__(self, model: LightBody, engine: NativeEngine) -> None:
        self.model = model
        self.engine = engine
        self.config = model.config
        self.device = torch.device("cpu")
        self.dtype = torch.float32


class LightTokenizer:
    """What a question needs of a tokenizer, through `tokenizers` alone.

    Args:
        folder: with `tokenizer.json` and `tokenizer_config.json`.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.encode_special_tokens = True  # "<image>" in a text is no picture
        told = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        end = told.get("eos_token")
        self.eos_token_id: int | None = None if end is None else self._tokenizer.token_to_id(end)

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        """Text -> its ids; special tokens in it are ordinary letters, and none is added."""
        return {"input_ids": self._tokenizer.encode(text, add_special_tokens=False).ids}

    @cached_property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        """Tokens that were added to the vocabulary, by id."""
        return dict(self._tokenizer.get_added_tokens_decoder())

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """The id of one token; None if it is unknown."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False, **_: Any) -> str:
        """Ids -> text."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text


class LightProcessor(Preparing):
    """`FerretProcessor` without transformers.

    Args:
        folder: of the model.
    """

    def __init__(self, folder: Path) -> None:
        self.tokenizer = LightTokenizer(folder)
        for name, value in json.loads((folder / "processor_config.json").read_text(encoding="utf-8")).items():
            setattr(self, name, value)


def check_light(folder: Path, asked_for: bool = False) -> None:
    """Looks whether a folder's model can be run by the fast engine on this machine, before anything is made.

    Args:
        folder: of the model.
        asked_for: somebody wants this engine, so it may also run on processors for which it is written but where its
            speed was never measured (ARM).

    Raises:
        NotLightError: it cannot.
    """
    if not (folder / _WEIGHTS).is_file() or not (folder / "tokenizer.json").is_file():
        raise NotLightError("its weights or its tokenizer are spread over files of another kind")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("vision_config", {}).get("model_type") != _TOWER:
        raise NotLightError("its vision tower is one of transformers")
    try:
        compiled = library()
    except NoLibraryError as problem:
        raise NotLightError(str(problem)) from problem
    instructions = compiled.openferret_instructions()
    if instructions == PLAIN:
        raise NotLightError("this processor has neither AVX2 nor AVX-512 VNNI, nor ARM's dot products")
    if instructions not in MEASURED and not asked_for:
        raise NotLightError("its speed was never measured on such a processor")


def open_light(folder: Path, asked_for: bool = False) -> tuple[LightFerret, LightProcessor]:
    """Opens a model folder for the fast engine; the first time what it needs is made and kept.

    The arguments are those of `check_light`.

    Raises:
        NotLightError: this model, or this machine, is not one for the fast engine.
        WeightsError: weights that are missing.
    """
    check_light(folder, asked_for)
    config, weights = _prepared(folder)
    with safe_open(folder / _WEIGHTS, framework="pt") as file:
        table = file.get_tensor(f"{_LANGUAGE}embed_tokens.weight")
        with torch.device("meta"):
            body = LightBody(config, table)
        names = body.state_dict().keys()
        there = set(file.keys())
        if missing := sorted(name for name in names if f"model.{name}" not in there):
            raise WeightsError(
                f"the model in {folder} lacks some of its weights ({missing[0]}); fetch it again"
            )
        state = {name: file.get_tensor(f"model.{name}").float() for name in names}
    body.load_state_dict(state, assign=True)
    # Channels last: convolutions need not lay out maps anew, which takes a seventh of a picture's time.
    for tower in (body.vision_tower, body.closer_look):
        if tower is not None:
            tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    body.eval().requires_grad_(False)
    return LightFerret(body, NativeEngine(weights)), LightProcessor(folder)


def _prepared(folder: Path) -> tuple[PlainConfig, PackedWeights]:
    """The configuration with its defaults, and the packed weights: found in the cache, or made."""
    values_file, weights_file = _kept(folder)
    try:
        return PlainConfig.of(json.loads(values_file.read_text(encoding="utf-8"))), read_packed(weights_file)
    except (OSError, ValueError, LookupError):
        pass  # not there yet, or damaged: made anew
    from rich.console import Console

    shown = (
        Console(stderr=True).status("preparing the fast engine, once")
        if sys.stderr.isatty()
        else nullcontext()
    )
    with shown:
        values = _values(folder)
        if reason := why_not(values["text_config"]):
            raise NotLightError(reason)
        shape = shape_of(values["text_config"])
        with safe_open(folder / _WEIGHTS, framework="pt") as file:
            arrays = packed_arrays(shape, _reader(file), read_updates(folder).get)
            weights = PackedWeights(shape, dict(arrays))
        try:
            write_packed(weights_file, weights)
            described = json.dumps(values | {_SOURCE: str(folder.resolve())})
            values_file.write_text(described, encoding="utf-8")
            _remove_older(weights_file, values_file)
        except OSError:
            pass  # no place to keep them: they are made again the next time
    return PlainConfig.of(values), gathered(weights)


def _kept(folder: Path) -> tuple[Path, Path]:
    """Where a folder's configuration and packed weights are kept, by what can be seen of its files."""
    from openferret.kit.base_weights import cache_folder

    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    # A configuration's defaults are this version's.
    defaults = (resources.files("openferret.model") / "configuration.py").read_bytes()
    seen: list[object] = [VERSION, hashlib.sha256(defaults).hexdigest()]
    for name in _FILES:
        if name == UPDATES_FILE and not (folder / name).is_file():
            continue  # only some folders have it
        told = (folder / name).stat()
        seen += [name, told.st_size, told.st_mtime_ns]
    name = f"{place}-{hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]}"
    return cache_folder() / "engine" / f"{name}.json", cache_folder() / "engine" / f"{name}{_PACKED}"


def _remove_older(*kept: Path) -> None:
    """Removes what was made of earlier weights of the same folder, or of folders that are gone: 0.1 GB each."""
    place = kept[0].name.split("-")[0]
    for described in kept[0].parent.glob("*.json"):
        if described in kept:
            continue
        try:
            source = Path(json.loads(described.read_text(encoding="utf-8"))[_SOURCE])
        except (OSError, ValueError, LookupError, TypeError):
            source = None
        if described.name.startswith(f"{place}-") or source is None or not source.is_dir():
            for file in described.parent.glob(f"{described.stem}.*"):
                file.unlink(missing_ok=True)


def _values(folder: Path) -> dict[str, Any]:
    """A configuration's values with their defaults, which only transformers knows."""
    from openferret.model.configuration import FerretConfig

    config = FerretConfig.from_pretrained(folder, local_files_only=True)
    values = json.loads(config.to_json_string(use_diff=False))
    values["vision_config"]["map_channels"] = list(config.map_channels)
    return dict(values)


def _reader(file: Any) -> Callable[[str], np.ndarray[Any, Any]]:
    """Weights of the language model by their name in `LlamaModel`; the head may be the table."""
    there = set(file.keys())

    def read(name: str) -> np.ndarray[Any, Any]:
        full = _LANGUAGE + name
        if name == "lm_head.weight":
            full = name if name in there else f"{_LANGUAGE}embed_tokens.weight"
        tensor: Tensor = file.get_tensor(full)
        return np.asarray(tensor.float().numpy())

    return read
