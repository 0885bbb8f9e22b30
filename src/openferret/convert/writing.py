"""Writes safetensors shard by shard, one tensor in memory at a time; what is whole is never written again."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from openferret.errors import WeightsError

SHARD_BYTES = 4 << 30
RECORD = "conversion.json"

_CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor that is still to be made.

    Attributes:
        name: in the file to be written.
        shape: its dimensions.
        dtype: of what `make` gives.
        make: reads or computes it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Tensor]

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def plan_shards(tensors: Iterable[PlannedTensor], limit: int = SHARD_BYTES) -> dict[str, list[PlannedTensor]]:
    """File names and what goes into each, in order; a tensor larger than the limit has a file of its own."""
    shards: list[list[PlannedTensor]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.bytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.bytes
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {
        f"model-{k:05}-of-{len(shards):05}.safetensors": content for k, content in enumerate(shards, start=1)
    }


def write_shards(
    folder: Path, shards: Mapping[str, Sequence[PlannedTensor]], written: Callable[[int], None]
) -> None:
    """Writes what is not there yet, and the index of several shards.

    Args:
        folder: an existing folder.
        shards: from `plan_shards`.
        written: called with the bytes of each tensor that is done, or was found done.

    Raises:
        WeightsError: a tensor that is not what was planned.
    """
    for name, tensors in shards.items():
        if (folder / name).is_file():
            written(sum(one.bytes for one in tensors))
        else:
            write_safetensors(folder / name, tensors, written)
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(one.bytes for tensors in shards.values() for one in tensors)},
            "weight_map": {one.name: name for name, tensors in shards.items() for one in tensors},
        }
        (folder / "model.safetensors.index.json").write_text(
            json.dumps(index, indent=2) + "\n", encoding="utf-8"
        )


def write_safetensors(
    path: Path, tensors: Sequence[PlannedTensor], written: Callable[[int], None] = lambda _: None
) -> None:
    """One safetensors file, whole under its name or not at all.

    Raises:
        WeightsError: a tensor that is not what was planned.
    """
    partial = path.with_name(path.name + ".tmp")
    try:
        with partial.open("wb") as file:
            file.write(_header(tensors))
            for planned in tensors:
                tensor = planned.make()
                if tuple(tensor.shape) != planned.shape or tensor.dtype != planned.dtype:
                    raise WeightsError(f"{planned.name} changed while it was being converted; run it again")
                # A tensor of no dimensions has no bytes to view, so it becomes one of one dimension.
                file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
                written(planned.bytes)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def staging(out: Path, record: str, needed: int) -> Iterator[Path]:
    """A folder beside `out` that becomes `out` when everything in it is done.

    Args:
        out: what is to be made; must not exist.
        record: of the sources and the plan, kept as `conversion.json`; the work of an earlier run with the
            same one is kept.
        needed: bytes that will be written.

    Raises:
        WeightsError: the disk is full, or cannot be written to; what is done so far is kept for the next run.
    """
    stage = out.with_name(out.name + ".part")
    try:
        if not is_made_from(stage, record):
            shutil.rmtree(stage, ignore_errors=True)
            stage.mkdir(parents=True)
            (stage / RECORD).write_text(record, encoding="utf-8")
        _require_space(stage, needed - sum(file.stat().st_size for file in stage.glob("*.safetensors")))
        yield stage
        stage.rename(out)
    except OSError as problem:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else f"{out} cannot be written: {problem.strerror or problem}"
        raise WeightsError(
            f"{what}; what is done is kept in {stage}, run the same command again to go on"
        ) from problem


def is_made_from(folder: Path, record: str) -> bool:
    """Whether a folder was begun with the same record."""
    note = folder / RECORD
    return note.is_file() and note.read_text(encoding="utf-8") == record


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise WeightsError(
            f"{needed / 1e9:.1f} GB will be written, but the disk of {folder} has {free / 1e9:.1f} GB free; "
            "free some, or choose another --out"
        )


def _header(tensors: Sequence[PlannedTensor]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for one in tensors:
        entries[one.name] = {
            "dtype": _CODES[one.dtype],
            "shape": list(one.shape),
            "data_offsets": [start, start + one.bytes],
        }
        start += one.bytes
    text = json.dumps(entries, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
