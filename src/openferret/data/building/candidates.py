"""Samples on their way from the writers to the shards: Arrow files that are mapped, not read.

Beside the columns of a sample there are `key` and `picture_key` (uint64, `building.mixture.sample_key` of the sample's
id and of its picture's file), so that both can be counted and chosen without reading their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openferret.data.building.mixture import sample_key
from openferret.data.files.atomic import whole_file
from openferret.data.schema import Sample
from openferret.data.storage.parquet import sample_schema, samples_to_batch
from openferret.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 2048  # turned into columns at a time


def write_candidates(path: Path, source: str, samples: Sequence[Sample], seed: int) -> None:
    """Writes the samples of one chunk, whole or not at all.

    Args:
        path: of the file.
        source: the source's name in the recipe; ids and pictures' files are put below it.
        samples: in their order.
        seed: of the recipe.

    Raises:
        InputError: the file cannot be written.
    """
    import pyarrow as pa

    schema = sample_schema().append(pa.field("key", pa.uint64())).append(pa.field("picture_key", pa.uint64()))
    with (
        whole_file(path) as partial,
        pa.OSFile(str(partial), "wb") as file,
        pa.ipc.new_file(file, schema) as out,
    ):
        for start in range(0, len(samples), _ROWS):
            part = samples[start : start + _ROWS]
            batch = _below_source(samples_to_batch(part), source)
            keys = np.array([sample_key(f"{source}/{one.id}", seed) for one in part], np.uint64)
            files = ["" if one.picture is None else f"{source}/{one.picture.file}" for one in part]
            pictures = np.array([sample_key(file, 0) if file else 0 for file in files], np.uint64)
            out.write_batch(pa.RecordBatch.from_arrays([*batch.columns, keys, pictures], schema=schema))


def _below_source(batch: pa.RecordBatch, source: str) -> pa.RecordBatch:
    import pyarrow as pa
    import pyarrow.compute as pc

    picture = batch.column("picture")
    files = pc.binary_join_element_wise(source, pc.struct_field(picture, "file"), "/")
    fields = [files, *(pc.struct_field(picture, name) for name in [f.name for f in picture.type][1:])]
    below = pa.StructArray.from_arrays(fields, fields=list(picture.type), mask=picture.is_null())
    ids = pc.binary_join_element_wise(source, batch.column("id"), "/")
    columns = dict(zip(batch.schema.names, batch.columns, strict=True)) | {"id": ids, "picture": below}
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=batch.schema)


def read_columns(path: Path, *names: str) -> list[pa.Array]:
    """Columns of a file of candidates, copied out of it.

    Raises:
        InputError: the file is missing or damaged.
    """
    import pyarrow as pa

    table = _mapped(path).select(names)
    return [
        pa.concat_arrays(table.column(name).chunks or [pa.array([], table.schema.field(name).type)])
        for name in names
    ]


def picture_files(path: Path, keys: NDArray[np.uint64]) -> list[str]:
    """Files of the pictures of a chunk whose keys are among some, each once, in their order.

    Raises:
        InputError: the file is missing or damaged.
    """
    import pyarrow.compute as pc

    found, pictures = read_columns(path, "picture_key", "picture")
    known, first = np.unique(found.to_numpy(), return_index=True)
    rows = np.sort(first[np.isin(known, keys) & (known != 0)])
    return [str(name) for name in pc.struct_field(pictures, "file").take(rows).to_pylist()]


def take_rows(path: Path, rows: NDArray[np.integer]) -> pa.Table:
    """Rows of a file of candidates in the order asked for, as rows of `sample_schema`.

    Raises:
        InputError: the file is missing or damaged.
    """
    return _mapped(path).select(sample_schema().names).take(rows)


def _mapped(path: Path) -> pa.Table:
    import pyarrow as pa

    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{path} is damaged ({' '.join(str(error).split())}); delete its folder and build again"
        ) from None
