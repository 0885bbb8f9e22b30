"""A model folder of ours -> a merged checkpoint under the reference's names, bit for bit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from openferret.convert.apple import ORIGINALS
from openferret.convert.checkpoint import StoredTensor, find_weights, list_tensors, read_json
from openferret.convert.configs import write_config
from openferret.convert.names import VISION, reference_name, to_reference_shape
from openferret.convert.progress import byte_bar
from openferret.convert.tokenizer import copy_tokenizer_files
from openferret.convert.writing import (
    RECORD,
    SHARD_BYTES,
    PlannedTensor,
    is_made_from,
    plan_shards,
    staging,
    write_shards,
)
from openferret.errors import InputError, WeightsError
from openferret.model.configuration import FerretConfig

_OPENAI_PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "do_center_crop": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_convert_rgb": True,
    "resample": 3,
    "rescale_factor": 1 / 255,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def convert_to_apple(
    model: Path, out: Path, *, shard_bytes: int = SHARD_BYTES, progress: bool = False
) -> Path:
    """Writes a merged checkpoint that the reference reads, with `vision_tower/` in it.

    What `convert_apple` has read comes back bit for bit, its configuration, tokenizer and buffers included.

    Args:
        model: folder of a model of the paper's kind.
        out: folder to make; must not exist, unless an earlier run has made it from the same model.
        shard_bytes: most bytes in a file.
        progress: show a bar on stderr.

    Returns:
        `out`.

    Raises:
        InputError: `out` exists.
        WeightsError: a model that the reference cannot hold, or one that cannot be read; or a full disk.

    Example:
        >>> convert_to_apple(Path("ferret-7b"), Path("ferret-7b-reference"))  # doctest: +SKIP
        PosixPath('ferret-7b-reference')
    """
    files = find_weights(model)
    stored = list_tensors(files)
    try:
        config = FerretConfig.from_pretrained(model, local_files_only=True)
    except (OSError, ValueError, TypeError) as problem:
        raise WeightsError(f"the configuration in {model} cannot be read: {problem}") from problem
    language_config, vision_config = write_config(config)
    record = _record(files, shard_bytes)
    if out.exists():
        if is_made_from(out, record):
            return out
        raise InputError(f"{out} exists already; choose another --out or remove it")
    planned = [_planned(name, one) for name, one in stored.items()]
    tower = [one for one in planned if one.name.startswith(VISION)]
    kept = planned if _held_vision(model) else [one for one in planned if one not in tower]
    originals = model / ORIGINALS
    stored_buffers = originals / "buffers.safetensors"
    buffers = list_tensors([stored_buffers]) if stored_buffers.is_file() else {}
    kept += [PlannedTensor(name, one.shape, one.dtype, one.read) for name, one in buffers.items()]
    tower = [PlannedTensor(one.name.removeprefix(VISION), one.shape, one.dtype, one.make) for one in tower]
    total = sum(one.bytes for one in (*kept, *tower))
    with staging(out, record, total) as stage, byte_bar("converting", total, progress) as advance:
        write_shards(stage, plan_shards(kept, shard_bytes), advance)
        _write_json(stage / "config.json", language_config)
        if originals.is_dir():
            for name in ("config.json", "generation_config.json"):
                if (originals / name).is_file():
                    (stage / name).write_bytes((originals / name).read_bytes())
            copy_tokenizer_files(originals, stage)
        folder = stage / "vision_tower"
        folder.mkdir(exist_ok=True)
        write_shards(folder, plan_shards(tower, shard_bytes), advance)
        _write_json(folder / "config.json", vision_config)
        side = vision_config["image_size"]
        sizes = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
        _write_json(folder / "preprocessor_config.json", _OPENAI_PREPROCESSOR | sizes)
    return out


def _planned(name: str, stored: StoredTensor) -> PlannedTensor:
    target = reference_name(name)
    shape = (*stored.shape, 1) if name.endswith(".aggregate.weight") else stored.shape
    return PlannedTensor(target, shape, stored.dtype, lambda: to_reference_shape(name, stored.read()))


def _held_vision(model: Path) -> bool:
    """Whether the checkpoint that this model came from had the vision tower inside it too."""
    note = model / RECORD
    return note.is_file() and read_json(note).get("holds_vision") is True


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _record(files: list[Path], shard_bytes: int) -> str:
    sizes = {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in files}
    digest = hashlib.sha256(json.dumps([sizes, shard_bytes]).encode()).hexdigest()
    return json.dumps({"to": "reference", "sources": digest}, indent=2) + "\n"
