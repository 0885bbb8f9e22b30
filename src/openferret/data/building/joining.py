"""The last stages of a build: which samples are taken, and the shards they go to, one job a shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openferret.data.building.candidates import read_columns, take_rows
from openferret.data.building.engine import Result
from openferret.data.building.mixture import Group, arrange, repeated
from openferret.data.building.recipe import Recipe
from openferret.data.files.atomic import read_mark, whole_file, write_json
from openferret.data.storage.digest import table_digest

if TYPE_CHECKING:
    import pyarrow as pa

_ROW_GROUP = 4096


@dataclass(frozen=True)
class Chunk:
    """A file of candidates.

    Args:
        source: the source's name in the recipe.
        path: of the file.
    """

    source: str
    path: Path


@dataclass(frozen=True)
class Order:
    """What is in the data set.

    Args:
        entries: int32 [n, 3], for each sample in order: which chunk, which row of it, which copy.
        counts: (source, task) -> how many samples, and how many of them negative.
        repeated: int32 [k, 2], chunk and row of samples whose id stood before; they are left out.
        pictures: keys of the pictures that are used, ascending.
    """

    entries: NDArray[np.int32]
    counts: Mapping[tuple[str, str], tuple[int, int]]
    repeated: NDArray[np.int32]
    pictures: NDArray[np.uint64]


def find_order(chunks: Sequence[Chunk], recipe: Recipe) -> Order:
    """Chooses samples by the recipe's weights and caps, from their keys alone.

    Raises:
        InputError: a chunk is damaged.
    """
    columns = [_key_columns(chunk.path) for chunk in chunks]
    keys = np.concatenate([np.empty(0, np.uint64), *(one.keys for one in columns)])
    first = np.concatenate([[0], np.cumsum([len(one.keys) for one in columns])]).astype(np.int64)
    later = repeated(keys)
    usable = np.ones(len(keys), np.bool_)
    usable[later] = False
    groups = _groups(chunks, columns, first, usable)
    rules = {(one.name, task): rule for one in recipe.sources for task, rule in one.tasks.items()}
    caps = {one.name: one.cap for one in recipe.sources if one.cap is not None}
    taken = arrange(keys, groups, rules, caps)
    places = np.searchsorted(first, taken.rows, side="right") - 1
    entries = np.stack([places, taken.rows - first[places], taken.copies], axis=1).astype(np.int32)
    negative = np.concatenate([np.empty(0, np.bool_), *(one.negative for one in columns)])
    times = np.bincount(taken.rows, minlength=len(keys))
    counts = {
        (group.source, group.task): (
            int(times[group.rows].sum()),
            int(times[group.rows][negative[group.rows]].sum()),
        )
        for group in groups
    }
    at = np.searchsorted(first, later, side="right") - 1
    pictures = np.concatenate([np.empty(0, np.uint64), *(one.pictures for one in columns)])
    used = np.unique(pictures[(times > 0) & (pictures != 0)])
    return Order(entries, counts, np.stack([at, later - first[at]], axis=1).astype(np.int32), used)


@dataclass(frozen=True)
class _Columns:
    keys: NDArray[np.uint64]
    tasks: Mapping[str, NDArray[np.int64]]  # rows of each task
    negative: NDArray[np.bool_]
    pictures: NDArray[np.uint64]


def _key_columns(path: Path) -> _Columns:
    keys, tasks, negative, pictures = read_columns(path, "key", "task", "negative", "picture_key")
    coded = tasks.dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False)
    rows = {
        str(name): np.flatnonzero(codes == code) for code, name in enumerate(coded.dictionary.to_pylist())
    }
    return _Columns(keys.to_numpy(), rows, negative.to_numpy(zero_copy_only=False), pictures.to_numpy())


def _groups(
    chunks: Sequence[Chunk],
    columns: Sequence[_Columns],
    first: NDArray[np.int64],
    usable: NDArray[np.bool_],
) -> list[Group]:
    found: dict[tuple[str, str], list[NDArray[np.int64]]] = {}
    for chunk, one, start in zip(chunks, columns, first[:-1], strict=True):
        for task, rows in one.tasks.items():
            found.setdefault((chunk.source, task), []).append(rows + start)
    joined = {key: np.concatenate(parts) for key, parts in sorted(found.items())}
    return [Group(source, task, rows[usable[rows]]) for (source, task), rows in joined.items()]


def join_shard(
    number: int, shard_size: int, order: Path, chunks: Sequence[Path], target: Path, mark: Path
) -> Result:
    """Writes one file of the data set, unless it is there.

    Args:
        number: of the shard, from 0.
        shard_size: samples in a shard.
        order: file of `Order.entries`.
        chunks: files of candidates, as `order` numbers them.
        target: of the shard.
        mark: written when it is whole.

    Returns:
        `file`, `samples` and `digest` (of the rows, not of the file).

    Raises:
        InputError: a chunk is damaged, or the shard cannot be written.
    """
    found = read_mark(mark)
    if found is not None and target.is_file():
        return found
    import pyarrow as pa
    import pyarrow.parquet as pq

    entries = np.load(order, mmap_mode="r")[number * shard_size : (number + 1) * shard_size]
    by_chunk = np.argsort(entries[:, 0], kind="stable")
    places, starts = np.unique(entries[by_chunk, 0], return_index=True)
    parts = [
        take_rows(chunks[int(place)], entries[by_chunk[start:end], 1])
        for place, start, end in zip(places, starts, [*starts[1:], len(by_chunk)], strict=True)
    ]
    back = np.empty(len(by_chunk), np.int64)
    back[by_chunk] = np.arange(len(by_chunk))
    table = _numbered(pa.concat_tables(parts).take(back), entries[:, 2])
    with whole_file(target) as partial:
        pq.write_table(table, partial, compression="zstd", row_group_size=_ROW_GROUP)
    result = {"file": target.name, "samples": len(table), "digest": table_digest(table)}
    write_json(mark, result)
    return result


def _numbered(table: pa.Table, copies: NDArray[np.int32]) -> pa.Table:
    """The rows with `#2` after the id of what is taken a second time: ids stay unique."""
    import pyarrow as pa

    if not copies.any():
        return table
    ids = [
        name if copy == 0 else f"{name}#{copy + 1}"
        for name, copy in zip(table.column("id").to_pylist(), copies.tolist(), strict=True)
    ]
    return table.set_column(
        table.schema.get_field_index("id"), table.schema.field("id"), pa.array(ids, pa.string())
    )
