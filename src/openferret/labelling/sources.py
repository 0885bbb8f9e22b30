"""Where pictures to label come from: files, folders, and tar archives that are read in place."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from PIL import Image

from openferret.checks import shorten
from openferret.errors import InputError
from openferret.images import SUFFIXES, find_images, load_image

_LARGEST = 256_000_000  # bytes of a picture's file in an archive


@dataclass(frozen=True)
class TarPicture:
    """A picture in a tar archive, read where it lies: nothing is unpacked.

    Args:
        archive: its path.
        name: of the picture in it, with `/` between folders.
        offset: bytes before its content.
        size: of its content in bytes.
    """

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}!/{self.name}"

    def read(self) -> bytes:
        """Its content; OSError where the archive is gone."""
        with self.archive.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.size)


Source: TypeAlias = Path | TarPicture


def find_sources(paths: Iterable[str | Path]) -> list[Source]:
    """Expand folders and tar archives to the pictures in them; other files stay as they are.

    Raises:
        InputError: nothing to label, or an archive that is compressed, damaged or holds unsafe names.
    """
    found: list[Source] = []
    for given in paths:
        path = Path(given)
        if path.suffix.lower() == ".tar" or path.name.lower().endswith((".tar.gz", ".tgz", ".tar.xz")):
            found += _pictures_of(path)
        else:
            found += find_images([given])
    if not found:
        raise InputError("no pictures: give at least one picture, folder or tar archive")
    return list(dict.fromkeys(found))


def open_source(source: Source) -> Image.Image:
    """The picture as upright RGB.

    Raises:
        InputError: it is missing, damaged or not a picture.
    """
    if isinstance(source, Path):
        return load_image(source)
    try:
        return load_image(source.read())
    except OSError as error:
        raise InputError(f"{str(source)!r} cannot be read: {error.strerror or error}") from error


def key_of(source: Source) -> str:
    """What a results file calls it: the full path; of a picture in an archive, both paths."""
    if isinstance(source, TarPicture):
        return f"{_absolute(source.archive)}!/{source.name}"
    return str(_absolute(source))


def source_names(sources: Sequence[Source]) -> dict[Source, str]:
    """The name of each picture in the exported files: its path below the deepest folder that holds them all.

    An archive counts as a folder of its name without `.tar`.

    >>> list(source_names([Path("x/train/a.jpg"), Path("x/b.jpg")]).values())
    ['train/a.jpg', 'b.jpg']
    """
    full = [_place(source) for source in sources]
    try:
        shared = os.path.commonpath([path.parent for path in full])
    except ValueError as error:  # of Windows' drives
        raise InputError("the pictures have no folder in common: label each drive by itself") from error
    return {source: place.relative_to(shared).as_posix() for source, place in zip(sources, full, strict=True)}


def _place(source: Source) -> Path:
    if isinstance(source, TarPicture):
        return _absolute(source.archive).with_suffix("").joinpath(source.name)
    return _absolute(source)


def _pictures_of(archive: Path) -> Iterator[TarPicture]:
    try:
        with tarfile.open(archive, "r:") as opened:
            pictures = [_checked(archive, member) for member in opened if _is_picture(member)]
    except InputError:
        raise
    except tarfile.ReadError:
        raise InputError(
            f"{str(archive)!r} is not a plain tar archive: unpack a compressed one, or make it a plain .tar"
        ) from None
    except (OSError, tarfile.TarError, ValueError, EOFError) as error:
        raise InputError(f"{str(archive)!r} cannot be read: {shorten(error)}") from error
    if not pictures:
        raise InputError(f"the archive {str(archive)!r} holds no pictures")
    yield from sorted(pictures, key=lambda one: one.name)


def _is_picture(member: tarfile.TarInfo) -> bool:
    name = PurePosixPath(member.name)
    whole = member.isreg() and not member.issparse()  # links are not followed
    return whole and name.suffix.lower() in SUFFIXES and not name.name.startswith(".")


def _checked(archive: Path, member: tarfile.TarInfo) -> TarPicture:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or not member.name.isprintable():
        raise InputError(
            f"{str(archive)!r} holds a picture named {shorten(member.name)!r}, which leads out of it"
        )
    if member.size > _LARGEST:
        raise InputError(f"{shorten(member.name)!r} in {str(archive)!r} is too large for a picture")
    return TarPicture(archive, name.as_posix(), member.offset_data, member.size)


def _absolute(path: Path) -> Path:
    # Links are kept: two names of one file are two pictures of a data set.
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute would keep ".."
