"""Pictures in tar shards beside the samples, in webdataset's layout: a picture's member is `PictureReference.file`."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from openferret.data.building.candidates import picture_files
from openferret.data.building.engine import Result
from openferret.data.building.joining import Chunk, Order
from openferret.data.files.atomic import read_mark, whole_file, write_json
from openferret.data.storage.pictures import PictureFolder, add_picture

PICTURES = 2_000  # in a tar


def plan_tars(chunks: Sequence[Chunk], order: Order) -> list[list[str]]:
    """Names of the pictures of each tar: those that are used, in the order of the sources.

    Raises:
        InputError: a chunk is damaged.
    """
    names = [name for chunk in chunks for name in picture_files(chunk.path, order.pictures)]
    distinct = list(dict.fromkeys(names))
    return [distinct[start : start + PICTURES] for start in range(0, len(distinct), PICTURES)]


def pack_pictures(names: Sequence[str], folders: Mapping[str, Path], target: Path, mark: Path) -> Result:
    """Writes one tar, unless it is there; the same pictures give the same bytes.

    Args:
        names: source's name, "/", file below the folder of the source's pictures.
        folders: that folder by the source's name.
        target: of the tar.
        mark: written when it is whole.

    Returns:
        `file` and `pictures`.

    Raises:
        InputError: a picture is missing, or the tar cannot be written.
    """
    found = read_mark(mark)
    if found is not None and target.is_file():
        return found
    with whole_file(target) as partial, tarfile.open(partial, "w:", format=tarfile.USTAR_FORMAT) as tar:
        for name in names:
            source, _, file = name.partition("/")
            add_picture(tar, name, PictureFolder(folders[source]).read(file))
    result = {"file": target.name, "pictures": len(names)}
    write_json(mark, result)
    return result
