"""A data set looked through: every row that is no sound sample is named, and so is every picture that is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from openferret.checks import shorten
from openferret.data.building.leaks import LeakFilter
from openferret.data.loading.dataset import Dataset
from openferret.data.problems import Problem
from openferret.data.schema import Sample
from openferret.data.storage.digest import table_digest
from openferret.data.storage.parquet import batch_to_samples, sample_schema
from openferret.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

PictureLook: TypeAlias = Literal["none", "exists", "open"]
_ROWS = 1024


def how_to_look(text: str) -> PictureLook:
    """What a person says of pictures: `none`, `exists` or `open`; InputError for anything else."""
    for known in get_args(PictureLook):
        if text == known:
            return known  # type: ignore[no-any-return]  # one of PictureLook's own
    raise InputError(f"--pictures must be none, exists or open, not {shorten(repr(text))}")


def find_problems(
    dataset: Dataset, pictures: PictureLook = "exists", leaks: LeakFilter | None = None
) -> Iterator[Problem]:
    """Everything that is wrong with a data set, shard by shard.

    Args:
        dataset: opened.
        pictures: whether each picture is opened, or looked for, or neither.
        leaks: evaluation pictures that must not be in it.
    """
    ids: set[int] = set()
    seen: set[str] = set()
    for shard in dataset.manifest["shards"]:
        path = dataset.place / str(shard["file"])
        try:
            table = _read(path)
        except InputError as error:
            yield Problem("damaged file", path.name, str(error))
            continue
        if len(table) != shard["samples"]:
            yield Problem("wrong count", path.name, f"{len(table)} rows instead of {shard['samples']}")
        elif table_digest(table) != shard.get("digest"):
            yield Problem("changed file", path.name, "its rows are not those of the manifest")
        for row, sample in _samples(table, path):
            if isinstance(sample, Problem):
                yield sample
                continue
            place = f"{path.name} row {row}, {sample.id}"
            if hash(sample.id) in ids:
                yield Problem("id stands twice", place, "an earlier sample has this id")
            ids.add(hash(sample.id))
            if sample.picture is not None and sample.picture.file not in seen:
                seen.add(sample.picture.file)
                yield from _picture_problems(dataset, sample, place, pictures, leaks)


def _samples(table: pa.Table, path: Path) -> Iterator[tuple[int, Sample | Problem]]:
    for start in range(0, len(table), _ROWS):
        part = table.slice(start, _ROWS)
        try:
            yield from enumerate(list(_read_part(part)), start)
        except InputError:  # one of them is bad: look at each
            for row in range(start, start + len(part)):
                try:
                    yield row, next(_read_part(table.slice(row, 1)))
                except InputError as error:
                    yield row, Problem("bad sample", f"{path.name} row {row}", str(error))


def _read_part(part: pa.Table) -> Iterator[Sample]:
    for batch in part.to_batches():
        yield from batch_to_samples(batch)


def _read(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table: pa.Table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"it cannot be read: {' '.join(str(error).split())}") from None
    missing = [name for name in sample_schema().names if name not in table.column_names]
    if missing:
        raise InputError(f"it has no column {missing[0]}")
    return table


def _picture_problems(
    dataset: Dataset, sample: Sample, place: str, look: PictureLook, leaks: LeakFilter | None
) -> Iterator[Problem]:
    picture: Any = sample.picture
    if leaks is not None:
        looks = int(picture.fingerprint, 16) if picture.fingerprint else None
        found = leaks.find(picture, looks)
        if found:
            yield Problem("evaluation picture", place, f"{picture.file} is in {found[0]}, by {found[1]}")
    if look == "none":
        return
    try:
        if look == "open":
            dataset.load_picture(picture)
        elif not dataset.has_picture(picture):
            yield Problem("missing picture", place, f"{picture.file} is not there")
    except InputError as error:
        yield Problem("damaged picture", place, str(error))
