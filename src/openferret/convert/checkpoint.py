"""Reads any checkpoint tensor by tensor: sharded or not, safetensors or `.bin`, and little of it at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from openferret.checks import shorten
from openferret.errors import WeightsError

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WHOLE = ("model.safetensors", "pytorch_model.bin")
_SHARD = re.compile(r"(?:model|pytorch_model)-(\d{5})-of-(\d{5})\.(?:safetensors|bin)")
_MAPPED_BYTES = 128 << 20
_UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, EOFError, SafetensorError)


class WeightFile:
    """A weight file, opened when a tensor is wanted.

    What has been read of a memory map counts as memory in use until the map is closed, so it is closed after
    every 128 MB. A `.bin` of before PyTorch 1.6 cannot be mapped: it is held until its last tensor is read.

    Args:
        path: safetensors or `.bin`; of the latter only tensors are unpickled.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: Mapping[str, Tensor] = {}
        self._mapped = True
        self._since = 0
        self._wanted: set[str] = set()

    def headers(self) -> dict[str, StoredTensor]:
        """Every tensor of the file, by name."""
        if self.path.suffix == ".safetensors":
            with safe_open(self.path, framework="pt") as opened:
                slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
                return {
                    name: StoredTensor(name, self, tuple(one.get_shape()), _DTYPES[one.get_dtype()])
                    for name, one in slices.items()
                }
        found = {
            name: StoredTensor(name, self, tuple(one.shape), one.dtype) for name, one in self._open().items()
        }
        self._opened, self._wanted = {}, set(found)
        return found

    def tensor(self, name: str) -> Tensor:
        """One tensor."""
        if self.path.suffix == ".safetensors":
            with safe_open(self.path, framework="pt") as opened:
                tensor: Tensor = opened.get_tensor(name)
                return tensor
        self._opened = self._opened or self._open()
        tensor = self._opened[name]
        self._since += tensor.nbytes
        self._wanted.discard(name)
        if (self._mapped and self._since > _MAPPED_BYTES) or not self._wanted:
            self._opened, self._since = {}, 0
        return tensor

    def _open(self) -> Mapping[str, Tensor]:
        try:
            try:
                content = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError as problem:
                if "mmap can only be used" not in str(problem):
                    raise
                self._mapped = False
                content = torch.load(self.path, map_location="cpu", weights_only=True)
        except UnpicklingError:
            raise ValueError(
                "it is not a whole file of tensors, and nothing else is ever unpickled"
            ) from None
        if not isinstance(content, dict) or not all(isinstance(one, Tensor) for one in content.values()):
            raise ValueError("it holds something else than named tensors")
        for name, tensor in content.items():
            _require_whole(name, tensor)
        return {name: tensor.detach() for name, tensor in content.items()}


def _require_whole(name: object, tensor: Tensor) -> None:
    """ValueError unless every number of a tensor lies in its file, once, as a plain number.

    A few bytes can claim to be terabytes: repeated by their strides, sparse, or on no device at all.
    """
    plain = (
        isinstance(name, str)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.dtype in _DTYPES.values()
    )
    if not plain or tensor.nbytes > tensor.untyped_storage().nbytes():
        kind = f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} on {tensor.device}"
        raise ValueError(f"{name} is no plain tensor that its file holds: {kind}")


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies.

    Attributes:
        name: in its file.
        source: the file.
        shape: its dimensions.
        dtype: as stored.
    """

    name: str
    source: WeightFile
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def file(self) -> Path:
        """Path of the file."""
        return self.source.path

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def read(self) -> Tensor:
        """The tensor.

        Raises:
            WeightsError: the file has changed or cannot be read.
        """
        try:
            return self.source.tensor(self.name)
        except _UNREADABLE as problem:
            raise WeightsError(f"{self.name} in {self.file} cannot be read: {_reason(problem)}") from problem


def find_weights(folder: Path) -> list[Path]:
    """The weight files of a checkpoint folder.

    Args:
        folder: with an index, with one file, or with numbered shards; a training output may hold them in
            `final-checkpoint`.

    Raises:
        WeightsError: no such folder, no weights in it, or missing shards, which are named.
    """
    if not folder.is_dir():
        raise WeightsError(f"there is no folder {folder}")
    for index in _INDEXES:
        if (folder / index).is_file():
            return _complete(folder, _indexed_files(folder / index))
    for name in _WHOLE:
        if (folder / name).is_file():
            return [folder / name]
    shards = [match for file in sorted(folder.iterdir()) if (match := _SHARD.fullmatch(file.name))]
    if shards:
        last, ending = int(shards[0][2]), Path(shards[0][0]).suffix
        stem = shards[0][0].split("-")[0]
        return _complete(folder, [f"{stem}-{k:05}-of-{last:05}{ending}" for k in range(1, last + 1)])
    if (folder / "final-checkpoint").is_dir():
        return find_weights(folder / "final-checkpoint")
    raise WeightsError(
        f"there are no weights in {folder}: expected {', '.join(_WHOLE)} or an index of shards"
    )


def list_tensors(files: Iterable[Path]) -> dict[str, StoredTensor]:
    """Every tensor of some weight files, by name; nothing but headers is read.

    Raises:
        WeightsError: a file is truncated, is not a checkpoint, or holds more than tensors; or two files hold a
            tensor of the same name.
    """
    found: dict[str, StoredTensor] = {}
    for file in files:
        try:
            headers = WeightFile(file).headers()
        except _UNREADABLE as problem:
            raise WeightsError(
                f"{file} cannot be read, it may be truncated: {_reason(problem)}; get this file again"
            ) from problem
        for name in headers:
            if name in found:
                raise WeightsError(
                    f"{name} is both in {found[name].file} and in {file}; only one can be right"
                )
        found |= headers
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file.

    Raises:
        WeightsError: no such file, or anything else in it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise WeightsError(f"{path} cannot be read: {_reason(problem)}") from problem
    if not isinstance(content, dict):
        raise WeightsError(f"{path} should hold a JSON object, but holds a {type(content).__name__}")
    return content


def _indexed_files(index: Path) -> list[str]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(
        isinstance(one, str) and Path(one).name == one for one in names.values()
    ):
        raise WeightsError(f"{index} has no usable weight_map: expected tensor names and file names")
    return sorted(set(names.values()))


def _complete(folder: Path, names: list[str]) -> list[Path]:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise WeightsError(
            f"{len(missing)} of {len(names)} shards are missing from {folder}: {', '.join(missing[:8])}"
        )
    return [folder / name for name in names]


def _reason(problem: BaseException) -> str:
    return shorten(problem, 160) or type(problem).__name__


_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
