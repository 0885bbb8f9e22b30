"""What a build is given beside its annotations: lists, hashes, phrasings. If one of them changes, so may the result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from openferret.data.building.recipe import Recipe
from openferret.data.files.regular import check_regular
from openferret.errors import InputError

_PIECE = 1 << 20


def input_digests(recipe: Recipe) -> dict[str, str]:
    """SHA-256 of each file that a recipe names, by the key it stands under; of a folder, of its files' names and sizes.

    Annotations are not among them: a build that is finished has read them, and tells of them itself.

    Raises:
        InputError: one of them cannot be read.
    """
    return {key: _digest(path, folder=key.endswith(".pictures")) for key, path in _named(recipe)}


def _named(recipe: Recipe) -> Iterator[tuple[str, Path]]:
    given: list[tuple[str, Path | None]] = [
        ("templates", recipe.templates),
        ("analogies", recipe.analogies),
    ]
    for source in recipe.sources:
        where = f"sources.{source.name}"
        given += [
            (f"{where}.split.only", source.split.only),
            (f"{where}.split.without", source.split.without),
        ]
        given.append((f"{where}.hashes", source.hashes))
    for one in recipe.leaks.sets:
        where = f"leaks.sets.{one.name}"
        given += [(f"{where}.names.{number}", path) for number, path in enumerate(one.names)]
        given += [(f"{where}.pictures", one.pictures), (f"{where}.hashes", one.hashes)]
    yield from ((key, path) for key, path in given if path is not None)


def _digest(path: Path, folder: bool) -> str:
    state = hashlib.sha256()
    try:
        if folder and path.is_dir():
            files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*"))
            for name, file in files:
                state.update(f"{name}\0{file.stat().st_size if file.is_file() else ''}\n".encode())
            return state.hexdigest()
        check_regular(path)
        with path.open("rb") as opened:
            while piece := opened.read(_PIECE):
                state.update(piece)
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return state.hexdigest()
