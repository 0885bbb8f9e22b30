"""Checkpoints that are whole or not there, and say what they belong to.

A checkpoint is written into a folder of another name, flushed, listed with the SHA-256 of each file, and renamed: a
kill at any moment leaves the one before. Opening one compares every file with the list, so that a torn copy is
noticed, and the recipe, the data and the beginning with those of the run, so that it is not mixed with another.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openferret.checks import shorten
from openferret.data.files.atomic import read_mark, write_json
from openferret.errors import InputError
from openferret.train.recipes.recipe import TrainingRecipe

FORMAT = 1
_LIST = "files.json"
_STATE = "state.json"
_NAME = re.compile(r"step-([0-9]{6,})")
_PIECE = 1 << 20
# What may differ between a run and its continuation: it does not change what is computed, or is compared otherwise.
_FREE = (
    *("name", "out", "threads", "activation_checkpointing", "every", "monitor", "batch.micro"),
    *("data.build", "data.cache", "data.workers", "data.skip_missing"),
    *("model.start", "model.vision", "model.language"),
)


@dataclass(frozen=True)
class Identity:
    """What a checkpoint belongs to.

    Args:
        recipe: of the run.
        data: digest of the samples.
        start: digest of the model that the run began with.
        losses: names of the objectives.
    """

    recipe: TrainingRecipe
    data: str
    start: str
    losses: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Values of JSON."""
        plain = json.loads(json.dumps(asdict(self.recipe), default=str))
        return {"recipe": plain, "data": self.data, "start": self.start, "losses": list(self.losses)}


def checkpoint_name(step: int) -> str:
    """Name of a checkpoint's folder.

    >>> checkpoint_name(50)
    'step-000050'
    """
    return f"step-{step:06d}"


def checkpoints(place: Path) -> list[tuple[int, Path]]:
    """Checkpoints of a run by step, the newest last; unfinished ones are not among them."""
    if not place.is_dir():
        return []
    found = [(match, path) for path in place.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in found)


def partial_folder(place: Path, step: int) -> Path:
    """Where a checkpoint is written before it is whole."""
    return place / f"{checkpoint_name(step)}.partial"


def begin_checkpoint(place: Path, step: int) -> None:
    """Makes an empty folder to write a checkpoint into; what earlier kills left is removed.

    Raises:
        InputError: the place cannot be written.
    """
    with explained_disk(place):
        place.mkdir(parents=True, exist_ok=True)
        for left in place.glob("*.partial"):
            shutil.rmtree(left)
        partial_folder(place, step).mkdir()


def finish_checkpoint(place: Path, step: int, identity: Identity, keep: int) -> Path:
    """Makes a checkpoint whose files are all written one that counts, and removes older ones.

    Args:
        place: folder of the run's checkpoints.
        step: that is done.
        identity: what it belongs to.
        keep: how many checkpoints are kept.

    Raises:
        InputError: the disk is full, or the place cannot be written; older checkpoints are still there.
    """
    partial, whole = partial_folder(place, step), place / checkpoint_name(step)
    with explained_disk(place):
        write_json(partial / _STATE, {"format": FORMAT, "step": step, **identity.to_dict()})
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        listed = {str(path.relative_to(partial)): _digest(path, flush=True) for path in files}
        write_json(partial / _LIST, {"format": FORMAT, "files": listed})
        if whole.exists():  # of the same step: a run that was resumed did it again, with the same result
            shutil.rmtree(whole)
        partial.rename(whole)
        _flush_folder(place)
        for _, old in checkpoints(place)[:-keep]:
            shutil.rmtree(old)
    return whole


def open_checkpoint(place: Path, identity: Identity) -> tuple[int, Path] | None:
    """The newest checkpoint of a run and its step, verified; None if there is none.

    Raises:
        InputError: it is damaged, or belongs to another run; what differs is named.
    """
    found = checkpoints(place)
    if not found:
        return None
    step, folder = found[-1]
    before = f" to go on from {found[-2][1].name}" if len(found) > 1 else " to begin anew"
    if problem := damage(folder):
        raise InputError(
            f"the checkpoint {folder} is damaged: {problem}. Nothing was changed; get a whole copy, or remove this "
            f"folder{before}"
        )
    state = read_mark(folder / _STATE) or {}
    if problem := difference(state, identity):
        raise InputError(
            f"the checkpoint {folder} belongs to another run: {problem}. Nothing was changed; give the same recipe, "
            "or another `out`"
        )
    return step, folder


def damage(folder: Path) -> str:
    """What is wrong with the files of a checkpoint; "" if nothing is."""
    listed = (read_mark(folder / _LIST) or {}).get("files")
    if not isinstance(listed, dict) or _STATE not in listed:
        return f"its list of files ({_LIST}) is missing or unreadable"
    for name, digest in listed.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _digest(path) != digest:
            return f"{name} is not as it was written ({path.stat().st_size} bytes)"
    return ""


def difference(state: Mapping[str, Any], identity: Identity) -> str:
    """How a checkpoint's state differs from a run; "" if it belongs to it."""
    if state.get("format") != FORMAT:
        return f"it is of format {shorten(repr(state.get('format')))}, and this version reads {FORMAT}"
    mine = identity.to_dict()
    theirs, own = _flat(state.get("recipe") or {}), _flat(mine["recipe"])
    differing = [
        f"{key} was {shorten(theirs.get(key))} and is {shorten(own.get(key))}"
        for key in sorted({*theirs, *own})
        if theirs.get(key) != own.get(key) and not _is_free(key)
    ]
    if differing:
        return "; ".join(differing[:4])
    for key, what in (("data", "data"), ("start", "model that it began with"), ("losses", "objectives")):
        if state.get(key) != mine[key]:
            return f"the {what} changed"
    return ""


class explained_disk:  # noqa: N801  # read as a verb: `with explained_disk(place):`
    """Turns errors of the disk into one line that says what to do.

    Args:
        place: that is written.
    """

    def __init__(self, place: Path) -> None:
        self._place = place

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """InputError for what the disk said; torch wraps it in errors of its own."""
        if isinstance(error, InputError) or not isinstance(error, OSError | RuntimeError):
            return
        said = str(error)
        full = getattr(error, "errno", None) in (28, 122) or any(
            mark in said for mark in ("No space left", "PytorchStreamWriter failed", "quota")
        )
        if full:
            raise InputError(
                f"the disk is full: a checkpoint below {self._place} could not be written; make room and go on with "
                "--resume, the checkpoint before it is whole"
            ) from error
        if isinstance(error, OSError):
            raise InputError(f"{self._place} cannot be written: {error.strerror or error}") from error


def _digest(path: Path, flush: bool = False) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
        if flush:
            os.fsync(file.fileno())
    return digest.hexdigest()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flat(content: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{key}.")
        else:
            flat[f"{before}{key}"] = value
    return flat


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in _FREE)
