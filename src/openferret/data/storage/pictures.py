"""Pictures of samples: files below a folder, or tar shards that WebDataset reads and that are the same each time.

A shard's member is named as the sample names its picture. Nothing is unpacked: members are read where they lie,
and a name that leads out of the folder is refused.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, Protocol

from openferret.checks import shorten
from openferret.data.files.atomic import whole_file
from openferret.decoding import MAX_PIXELS
from openferret.errors import InputError

SHARD_BYTES = 1 << 30
_LARGEST = 4 * MAX_PIXELS  # bytes of one picture's file


class Pictures(Protocol):
    """Where the pictures of samples are."""

    def read(self, file: str) -> bytes:
        """A picture's bytes; InputError if it is not there."""


class PictureFolder:
    """Pictures as files below a folder; InputError if there is no such folder."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise InputError(f"{root} is not a folder: give the one that holds the pictures")
        self._root = root.resolve()

    def read(self, file: str) -> bytes:
        """A picture's bytes; InputError if it is missing, too large, or its name leads out of the folder."""
        try:
            path = (self._root / file).resolve()
            if not path.is_relative_to(self._root):
                raise InputError(f"the picture {shorten(file)} lies outside of {self._root.name}")
            if path.stat().st_size > _LARGEST:
                raise InputError(f"the picture {shorten(file)} is larger than {_LARGEST >> 20} MiB")
            return path.read_bytes()
        except (OSError, ValueError, RuntimeError) as error:
            if isinstance(error, InputError):
                raise
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(f"the picture {shorten(file)} cannot be read: {reason}") from None


class PictureShards:
    """Pictures in the `.tar` files of a folder; their headers are read once, the pictures when they are asked for.

    Raises:
        InputError: no shards, a damaged one, or a picture that is in two.
    """

    def __init__(self, root: Path) -> None:
        self._members: dict[str, tuple[Path, int, int]] = {}
        shards = sorted(root.glob("*.tar"))
        if not shards:
            raise InputError(f"{root} holds no .tar shards")
        for shard in shards:
            for name, offset, size in _headers(shard):
                if name in self._members:
                    raise InputError(f"the picture {shorten(name)} is twice in the shards of {root.name}")
                self._members[name] = (shard, offset, size)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, file: object) -> bool:
        return file in self._members

    def read(self, file: str) -> bytes:
        """A picture's bytes; InputError if it is in no shard, or cut off."""
        if file not in self._members:
            raise InputError(f"the picture {shorten(file)} is in no shard")
        shard, offset, size = self._members[file]
        if size > _LARGEST:
            raise InputError(f"the picture {shorten(file)} is larger than {_LARGEST >> 20} MiB")
        try:
            with shard.open("rb") as stream:
                stream.seek(offset)
                content = stream.read(size)
        except OSError as error:
            raise InputError(f"{shard} cannot be read: {error.strerror or error}") from None
        if len(content) < size:
            raise InputError(f"{shard} is cut off within the picture {shorten(file)}")
        return content


def write_shards(
    root: Path, files: Iterable[str], pictures: Pictures, shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """Writes pictures into tar shards `pictures-000000.tar`...: the same files in the same order, the same bytes.

    Args:
        root: folder of the shards.
        files: names of the pictures, in order; a name that comes again is written once.
        pictures: where they are.
        shard_bytes: a shard is closed when it has so many, or more.

    Returns:
        The shards, each whole.

    Raises:
        InputError: a picture is missing, or a shard cannot be written.
    """
    shards: list[Path] = []
    coming = iter(dict.fromkeys(files))
    name = next(coming, None)
    while name is not None:
        path = root / f"pictures-{len(shards):06d}.tar"
        with ExitStack() as stack:
            partial = stack.enter_context(whole_file(path))
            shard = stack.enter_context(tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT))
            while name is not None and shard.offset < shard_bytes:
                add_picture(shard, name, pictures.read(name))
                name = next(coming, None)
        shards.append(path)
    return shards


def add_picture(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    """Puts a picture at the end of a tar: the same picture is the same bytes.

    Raises:
        InputError: its name cannot be one of the tar's.
    """
    member = tarfile.TarInfo(name)  # owner, rights and time are the same for all
    member.size = len(content)
    try:
        shard.format = _form(member)
        shard.addfile(member, io.BytesIO(content))
    except ValueError as error:
        raise InputError(f"the picture {shorten(name)} cannot be put in a tar file: {error}") from None


def _form(member: tarfile.TarInfo) -> Literal[0, 2]:
    """The plain form, unless the name is too long for it: then a header before the member holds it."""
    try:
        member.tobuf(tarfile.USTAR_FORMAT)
    except ValueError:
        return tarfile.PAX_FORMAT
    return tarfile.USTAR_FORMAT


def _headers(shard: Path) -> Iterator[tuple[str, int, int]]:
    end = 0
    try:
        with tarfile.open(shard, "r:") as opened:
            for member in opened:
                end = opened.offset  # where the next header should be
                if member.isreg():  # links and devices have no picture
                    yield member.name, member.offset_data, member.size
        # An archive ends in two empty blocks; tarfile takes the end of a file that was cut off for its end too.
        if shard.stat().st_size < end + 2 * tarfile.BLOCKSIZE:
            raise InputError(f"{shard} is cut off: get a whole copy")
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{shard} is not a whole tar file: {error}") from None
