"""Samples in Parquet files (zstd): one row a sample, written and read a batch at a time.

Columns: id, version, task, negative, picture, turns, regions, masks, provenance, extra (JSON, or ""). Regions are a
kind and its numbers in pixels; docs/data.md lists them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openferret.checks import shorten
from openferret.data.files.atomic import whole_file
from openferret.data.outlines import RunLengths
from openferret.data.schema import SCHEMA_VERSION, PictureReference, Provenance, Sample, Turn
from openferret.errors import InputError
from openferret.regions import Box, Mask, Point, Polygon, Region, Scribble

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 4096  # of a row group, and held in memory at once
_VERSION_KEY = b"openferret.sample"
_PROVENANCE = ("source", "licence", "record", "template", "generator")


@cache
def sample_schema() -> pa.Schema:
    """The columns of a file of samples.

    >>> sample_schema().names[:4]
    ['id', 'version', 'task', 'negative']
    """
    pa = _arrow()
    text, size = pa.string(), pa.int32()
    mask = pa.struct([("height", size), ("width", size), ("counts", text)])
    picture = pa.struct(
        [
            *(("file", text), ("width", size), ("height", size), ("source", text), ("id", text)),
            *(("same_as", pa.list_(text)), ("fingerprint", text)),
        ]
    )
    region = pa.struct(
        [("kind", text), ("numbers", pa.list_(pa.float64())), ("stroke", pa.float64()), ("counts", text)]
    )
    columns = [
        ("id", text),
        ("version", pa.int16()),
        ("task", text),
        ("negative", pa.bool_()),
        ("picture", picture),
        ("turns", pa.list_(pa.struct([("role", text), ("text", text)]))),
        ("regions", pa.list_(region)),
        ("masks", pa.list_(mask)),
        ("provenance", pa.struct([(name, text) for name in _PROVENANCE])),
        ("extra", text),
    ]
    return pa.schema(columns, {_VERSION_KEY: str(SCHEMA_VERSION).encode()})


def samples_to_batch(samples: Sequence[Sample]) -> pa.RecordBatch:
    """Samples as one batch of rows of `sample_schema`."""
    pa = _arrow()
    rows = [_to_row(sample) for sample in samples]
    try:
        return pa.RecordBatch.from_pylist(rows, sample_schema())
    except (pa.ArrowInvalid, UnicodeError, OverflowError) as error:  # as a lone surrogate in a text
        raise InputError(
            f"samples cannot be written to Parquet: {' '.join(str(error).split())}; it holds sound Unicode only"
        ) from None


def batch_to_samples(batch: pa.RecordBatch) -> Iterator[Sample]:
    """The samples of a batch of rows; InputError for one that is none."""
    for row in batch.to_pylist():
        try:
            yield _from_row(row)
        except InputError as error:
            name = f"sample {shorten(row.get('id'))}"
            raise error if str(error).startswith("sample ") else InputError(f"{name}: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            reason = f"{type(error).__name__}: {shorten(error)}"
            raise InputError(f"sample {shorten(row.get('id'))}: its row is damaged ({reason})") from None


def write_samples(path: Path, samples: Iterable[Sample]) -> int:
    """Writes a file of samples, whole or not at all; the same samples give the same bytes.

    Args:
        path: of the `.parquet` file.
        samples: in their order; `ROWS` are held at a time.

    Returns:
        How many there were.

    Raises:
        InputError: the file cannot be written.
    """
    _arrow()
    import pyarrow.parquet as pq

    count, coming = 0, iter(samples)
    with (
        whole_file(path) as partial,
        pq.ParquetWriter(partial, sample_schema(), compression="zstd") as writer,
    ):
        while rows := list(islice(coming, ROWS)):
            writer.write_batch(samples_to_batch(rows), row_group_size=ROWS)
            count += len(rows)
    return count


def read_samples(path: Path) -> Iterator[Sample]:
    """The samples of a file, or of all `.parquet` files of a folder by name, in order.

    Raises:
        InputError: a missing or damaged file, one of other columns or another version, a row that is no sample; the
            file and the sample are named.
    """
    for file, batch in _batches(path, sample_schema().names):
        try:
            yield from batch_to_samples(batch)
        except InputError as error:
            raise InputError(f"{file}: {error}") from None


def read_picture_references(path: Path) -> Iterator[PictureReference]:
    """The pictures of the samples of a file, or of all files of a folder; no other column is read.

    Returns:
        Each picture at least once, and again for each batch of rows that it comes in.

    Raises:
        InputError: as of `read_samples`.
    """
    for file, batch in _batches(path, ["picture"]):
        found = {row["file"]: row for row in batch.column(0).to_pylist() if row is not None}
        try:
            yield from (PictureReference(**row) for row in found.values())
        except (InputError, TypeError) as error:
            raise InputError(f"{file}: {error}") from None


def _batches(path: Path, columns: Sequence[str]) -> Iterator[tuple[Path, pa.RecordBatch]]:
    pa = _arrow()
    import pyarrow.parquet as pq

    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no .parquet file")
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                _check_columns(opened.schema_arrow, file)
                for batch in opened.iter_batches(ROWS, columns=list(columns)):
                    yield file, batch
        except InputError as error:
            raise error if str(file) in str(error) else InputError(f"{file}: {error}") from None
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise InputError(f"{file} cannot be read as Parquet: {reason}") from None


def _check_columns(found: pa.Schema, file: Path) -> None:
    version = (found.metadata or {}).get(_VERSION_KEY, b"").decode("ascii", "replace")
    if version and version != str(SCHEMA_VERSION):
        raise InputError(f"{file} holds samples of version {version}; version {SCHEMA_VERSION} can be read")
    for column in sample_schema():
        if column.name not in found.names:
            raise InputError(
                f"{file} is not a file of samples: it has no column {column.name}, only "
                f"{shorten(', '.join(found.names), 120)}"
            )


def _to_row(sample: Sample) -> dict[str, Any]:
    picture = sample.picture
    return {
        "id": sample.id,
        "version": sample.version,
        "task": sample.task,
        "negative": sample.negative,
        "picture": None
        if picture is None
        else {
            "file": picture.file,
            "width": picture.width,
            "height": picture.height,
            "source": picture.source,
            "id": picture.id,
            "same_as": picture.same_as,
            "fingerprint": picture.fingerprint,
        },
        "turns": [{"role": turn.role, "text": turn.text} for turn in sample.turns],
        "regions": [_region_row(region) for region in sample.regions],
        "masks": [
            None if mask is None else {"height": mask.height, "width": mask.width, "counts": mask.counts}
            for mask in sample.masks
        ],
        "provenance": {name: getattr(sample.provenance, name) for name in _PROVENANCE},
        "extra": json.dumps(sample.extra, ensure_ascii=False) if sample.extra else "",
    }


def _region_row(region: Region) -> dict[str, Any]:
    stroke: float | None = None
    counts = ""
    match region:
        case Box(x1, y1, x2, y2):
            kind, numbers = "box", [x1, y1, x2, y2]
        case Point(x, y):
            kind, numbers = "point", [x, y]
        case Scribble(points, stroke):
            kind, numbers = "scribble", [side for point in points for side in point]
        case Polygon(points):
            kind, numbers = "polygon", [side for point in points for side in point]
        case Mask(array):
            runs = RunLengths.of(array)
            kind, numbers, counts = "mask", [float(runs.height), float(runs.width)], runs.counts
    return {"kind": kind, "numbers": numbers, "stroke": stroke, "counts": counts}


def _from_row(row: dict[str, Any]) -> Sample:
    picture = row["picture"]
    return Sample(
        row["id"],
        None if picture is None else PictureReference(**picture),
        tuple(Turn(turn["role"], turn["text"]) for turn in row["turns"]),
        tuple(_read_region(region) for region in row["regions"]),
        tuple(None if mask is None else RunLengths(**mask) for mask in row["masks"]),
        Provenance(**row["provenance"]),
        row["negative"],
        row["task"],
        row["version"],
        json.loads(row["extra"]) if row["extra"] else {},
    )


def _read_region(row: dict[str, Any]) -> Region:
    numbers = row["numbers"]
    match row["kind"]:
        case "box":
            return Box(*numbers)
        case "point":
            return Point(*numbers)
        case "scribble":
            return Scribble(tuple(zip(numbers[::2], numbers[1::2], strict=True)), row["stroke"])
        case "polygon":
            return Polygon(tuple(zip(numbers[::2], numbers[1::2], strict=True)))
        case "mask":
            return RunLengths(int(numbers[0]), int(numbers[1]), row["counts"]).mask()
    raise InputError(f"a region of the kind {shorten(repr(row['kind']))} is not known")


def _arrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError:
        raise InputError("Parquet files need pyarrow: pip install 'openferret[data]'") from None
    return pa
