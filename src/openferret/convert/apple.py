"""Any checkpoint of the reference -> a model folder of ours, streamed tensor by tensor.

Memory: the largest tensor three times over (a delta, its base, their sum), whatever the model's size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from openferret.convert.checksums import check_files, known_sums
from openferret.convert.progress import byte_bar
from openferret.convert.release import Release, Sources, gather, weights_folder
from openferret.convert.tokenizer import copy_tokenizer_files, has_tokenizer, open_tokenizer
from openferret.convert.writing import (
    SHARD_BYTES,
    is_made_from,
    plan_shards,
    staging,
    write_safetensors,
    write_shards,
)
from openferret.errors import InputError
from openferret.processing.processor import FerretProcessor

ORIGINALS = "reference"
"""Subfolder that keeps what has no place in our layout, for the way back."""

_VERSION = 1
_CONFIGURATIONS = ("config.json", "generation_config.json")


def convert_apple(
    sources: Sources,
    out: Path,
    *,
    tokenizer: Path | None = None,
    base_checksums: Path | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: bool = False,
) -> Path:
    """Converts a release: Apple's deltas with their base, a merged checkpoint, or a training output.

    The compatibility switches of the configuration are set, so that the model answers as it did there. An
    interrupted run is taken up where it stopped; `out` appears when everything is done, and not before.

    Args:
        sources: where the parts lie.
        out: folder to make; must not exist, unless an earlier run has made it from the same sources.
        tokenizer: folder of the tokenizer, where neither the weights nor the base have one.
        base_checksums: SHA-256 sums of the base's files, as `sha256sum` writes them. Files of a Hugging Face
            cache carry theirs in their names and are checked in any case.
        shard_bytes: most bytes in a file.
        progress: show a bar on stderr.

    Returns:
        `out`.

    Raises:
        InputError: `out` exists.
        WeightsError: anything wrong with the sources, named; or a full disk.

    Example:
        >>> from openferret.convert import Sources, convert_apple
        >>> convert_apple(Sources(Path("ferret-7b-delta"), base=Path("vicuna-7b-v1.3")), Path("ferret-7b"))
        ... # doctest: +SKIP
        PosixPath('ferret-7b')
    """
    release = gather(sources)
    record = _record(release, shard_bytes)
    if out.exists():
        if is_made_from(out, record):
            return out
        raise InputError(f"{out} exists already; choose another --out or remove it")
    places = [one for one in (tokenizer, weights_folder(sources.weights), sources.base) if one is not None]
    words = open_tokenizer(places, release.config)
    check_files(known_sums(release.files, base_checksums, sources.base), progress)
    shards = plan_shards(release.tensors, shard_bytes)
    total = sum(one.bytes for one in release.tensors)
    with staging(out, record, total) as stage, byte_bar("converting", total, progress) as advance:
        write_shards(stage, shards, advance)
        _write_settings(stage, release, sources, places, words)
    return out


def _write_settings(
    stage: Path, release: Release, sources: Sources, places: Sequence[Path], words: Any
) -> None:
    """Everything but the weights."""
    config = release.config
    config.architectures = ["FerretForConditionalGeneration"]
    config.dtype = next(one.dtype for one in release.tensors if one.name == "lm_head.weight")
    config.save_pretrained(stage)
    text = config.text_config
    GenerationConfig(
        bos_token_id=text.bos_token_id, eos_token_id=text.eos_token_id, pad_token_id=words.pad_token_id
    ).save_pretrained(stage)
    FerretProcessor.for_config(words, config).save_pretrained(stage)
    originals = stage / ORIGINALS
    originals.mkdir(exist_ok=True)
    folder = weights_folder(sources.weights)
    for name in _CONFIGURATIONS:
        if (folder / name).is_file():
            (originals / name).write_bytes((folder / name).read_bytes())
    with_words = next((place for place in places if has_tokenizer(place)), None)
    if with_words is not None:
        copy_tokenizer_files(with_words, originals)
    if release.buffers:
        write_safetensors(originals / "buffers.safetensors", release.buffers)


def _record(release: Release, shard_bytes: int) -> str:
    """What a conversion is made from; equal records give equal files."""
    files = {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in release.files}
    plan = [[one.name, list(one.shape), str(one.dtype)] for one in release.tensors]
    digest = hashlib.sha256(json.dumps([_VERSION, files, plan, shard_bytes]).encode()).hexdigest()
    facts = {"from": "reference", "holds_vision": release.holds_vision, "sources": digest}
    return json.dumps(facts, indent=2) + "\n"
