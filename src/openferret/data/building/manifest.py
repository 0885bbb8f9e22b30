"""What stands in `manifest.json`: what a data set holds, what it was made of, and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from openferret import __version__
from openferret.data.building.recipe import Recipe
from openferret.data.building.workspace import MANIFEST
from openferret.data.schema import SCHEMA_VERSION
from openferret.data.storage.digest import joined_digest
from openferret.errors import InputError
from openferret.eval.files import read_json

FORMAT = 1


def make_manifest(
    recipe: Recipe,
    shards: Sequence[Mapping[str, Any]],
    counts: Mapping[tuple[str, str], tuple[int, int]],
    pictures: int,
    sources: Mapping[str, Mapping[str, Any]],
    problems: Mapping[str, Mapping[str, int]],
    leaks: Mapping[str, Mapping[str, int]],
    tars: Sequence[str],
    inputs: Mapping[str, str],
) -> dict[str, Any]:
    """The content of the manifest.

    Args:
        recipe: what was built.
        shards: `file`, `samples` and `digest` of each, in order.
        counts: (source, task) -> samples, and negative ones among them.
        pictures: how many are used.
        sources: by name, what is known of each.
        problems: by source and kind, how many records could not be used.
        leaks: by evaluation set and how it was known, how many pictures were kept out.
        tars: files of pictures, if they are packed.
        inputs: digests of the other files that the recipe names, by their keys.
    """
    return {
        "format": FORMAT,
        "openferret": __version__,
        "schema": SCHEMA_VERSION,
        "name": recipe.name,
        "licence": recipe.licence,
        "seed": recipe.seed,
        "recipe_sha256": recipe.digest,
        "sha256": joined_digest(shard["digest"] for shard in shards),
        "samples": sum(shard["samples"] for shard in shards),
        "pictures": pictures,
        "shards": list(shards),
        "picture_files": list(tars),
        "counts": [
            {"source": source, "task": task, "samples": samples, "negative": negative}
            for (source, task), (samples, negative) in sorted(counts.items())
            if samples
        ],
        "sources": dict(sources),
        "inputs": dict(inputs),
        "problems": {name: dict(found) for name, found in problems.items()},
        "leaks": {name: dict(found) for name, found in leaks.items()},
    }


def read_manifest(place: Path) -> dict[str, Any]:
    """The manifest of a data set.

    Args:
        place: its folder.

    Raises:
        InputError: there is none, it is unfinished, of another version, or not as `make_manifest` writes it.
    """
    file = place / MANIFEST
    if not file.is_file():
        unfinished = (place / ".build").is_dir()
        what = (
            "is unfinished: run the same `openferret data build` again" if unfinished else "holds no data set"
        )
        raise InputError(f"{place} {what} (there is no {MANIFEST})")
    content = read_json(file)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{file} is not a manifest of format {FORMAT}, which this version reads")
    damaged = next((key for key, sound in _SOUND.items() if not sound(content.get(key))), None)
    if damaged is not None:
        raise InputError(
            f"{file} is damaged: its {damaged!r} is not what `openferret data build` writes there"
        )
    return content


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_file_name(value: Any) -> bool:
    """Of a file in the folder itself: a name that leads out of it is not followed."""
    return isinstance(value, str) and Path(value).name == value and "\0" not in value


def _is_shard(value: Any) -> bool:
    return isinstance(value, dict) and _is_file_name(value.get("file")) and _is_count(value.get("samples"))


def _is_source(value: Any) -> bool:
    left_out = value.get("left_out", {}) if isinstance(value, dict) else None
    return _has_counts(left_out) and _is_text(value.get("pictures"))


def _has_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_count, value.values()))


def _all(sound: Callable[[Any], bool], kind: type, needed: bool = True) -> Callable[[Any], bool]:
    """A check of every value of a list or mapping; one that is not needed may be missing."""

    def check(value: Any) -> bool:
        if value is None:
            return not needed
        values = value.values() if isinstance(value, dict) else value
        return isinstance(value, kind) and all(map(sound, values))

    return check


_SOUND: Mapping[str, Callable[[Any], bool]] = {
    "sha256": _is_text,
    "samples": _is_count,
    "pictures": lambda value: value is None or _is_count(value),
    "shards": _all(_is_shard, list),
    "picture_files": _all(_is_file_name, list),
    "sources": _all(_is_source, dict),
    "inputs": _all(_is_text, dict, needed=False),
    "problems": _all(_has_counts, dict, needed=False),
    "leaks": _all(_has_counts, dict, needed=False),
}
