"""Files that a client may name: those in folders that whoever started the server allowed, and no others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from openferret.checks import shorten
from openferret.errors import InputError


@dataclass(frozen=True)
class AllowedFolders:
    """Folders whose files may be read.

    Args:
        folders: resolved, as `of` makes them.
    """

    folders: tuple[Path, ...]

    @classmethod
    def of(cls, folders: Iterable[str | Path]) -> AllowedFolders:
        """Resolve folders; InputError for one that is not there."""
        resolved = []
        for folder in folders:
            try:
                place = Path(folder).resolve(strict=True)
            except (OSError, ValueError, RuntimeError):
                place = None
            if folder == "" or place is None or not place.is_dir():
                raise InputError(
                    f"{shorten(folder)!r} is not a folder: give one that pictures may be read from"
                )
            resolved.append(place)
        return cls(tuple(resolved))

    def find(self, name: str) -> Path:
        """The file of that name: a full path, or one below any of the folders.

        Links are followed first: where a file is counts, not what it is called. A file outside and a file
        that does not exist are told alike, so that nobody learns what else is on the machine.

        Raises:
            InputError: no such file in the folders.
        """
        for folder in self.folders:
            try:
                place = (folder / name).resolve(strict=True)
            except (OSError, ValueError, RuntimeError):  # absent, a loop of links, a NUL, too long
                continue
            if any(place.is_relative_to(allowed) for allowed in self.folders) and place.is_file():
                return place
        raise InputError(f"there is no file {shorten(name)!r} in the folders that may be read")
