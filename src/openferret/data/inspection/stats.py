"""What a data set holds, counted per task and source, beside what is known of the paper's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openferret.data.loading.dataset import Dataset
from openferret.errors import InputError


@dataclass(frozen=True)
class Part:
    """A part of the paper's GRIT, and which of our samples are of that sort.

    Args:
        name: as the paper calls it.
        published: how many samples it has in the paper.
        tasks: ours of that sort, unless negative.
    """

    name: str
    published: int
    tasks: frozenset[str] = frozenset()


# The five counts that the paper states; a table by source was not published.
_OF_OBJECTS = {"object", "attribute", "phrase", "expression", "all_instances", "presence"}
PARTS = (
    Part("individual objects", 678_000, frozenset(_OF_OBJECTS)),
    Part("relationships, region descriptions", 177_000, frozenset({"relationship", "description"})),
    Part("region-based reasoning (assisted)", 34_000),
    Part("grounded LLaVA-Instruct", 158_000),
    Part("hard negatives", 95_000),
)
_, _, _REASONING, _LLAVA, _NEGATIVE = PARTS
_LLAVA_INSTRUCT = "llava_instruct"
_COUNTED = ("samples", "negative", "turns", "regions")


@dataclass(frozen=True)
class Statistics:
    """Counts of a data set.

    Args:
        rows: for each source and task: samples, negative ones, turns, regions.
        parts: samples of each part of the paper's.
        other: samples that are of no part of the paper's.
    """

    rows: Sequence[Mapping[str, Any]]
    parts: Mapping[str, int]
    other: int


def count(dataset: Dataset) -> Statistics:
    """Counts the rows of all shards.

    Raises:
        InputError: a shard is missing or damaged.
    """
    found: dict[tuple[str, str], Counter[str]] = {}
    parts: Counter[str] = Counter({part.name: 0 for part in PARTS})
    for shard in dataset.shards:
        for row in _shard_rows(shard):
            entry = found.setdefault((row["source"], row["task"]), Counter())
            entry.update({name: row[name] for name in _COUNTED})
            part = part_of(row["task"], row["origin"])
            parts[part.name if part else ""] += row["samples"] - row["negative"]
            parts[_NEGATIVE.name] += row["negative"]
    rows = [
        {"source": source, "task": task, **{name: entry[name] for name in _COUNTED}}
        for (source, task), entry in sorted(found.items())
    ]
    other = parts.pop("", 0)
    return Statistics(rows, parts, other)


def part_of(task: str, origin: str) -> Part | None:
    """The part of the paper's GRIT that a sample is like, unless it is negative; None for no part.

    Args:
        task: of the sample.
        origin: the source that its provenance names.
    """
    if origin == _LLAVA_INSTRUCT:
        return _LLAVA
    if task in {"reasoning", "dialogue", "detail"}:
        return _REASONING
    return next((part for part in PARTS if task in part.tasks), None)


def _shard_rows(shard: Any) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(shard, columns=["id", "task", "negative", "turns", "regions", "provenance"])
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{shard} cannot be read: {' '.join(str(error).split())}") from None
    counted = pa.table(
        {
            "source": pc.list_element(pc.split_pattern(table.column("id"), "/", max_splits=1), 0),
            "task": table.column("task"),
            "origin": pc.struct_field(table.column("provenance"), "source"),
            "negative": table.column("negative").cast(pa.int64()),
            "turns": pc.list_value_length(table.column("turns")),
            "regions": pc.list_value_length(table.column("regions")),
        }
    )
    grouped = counted.group_by(["source", "task", "origin"]).aggregate(
        [("task", "count"), ("negative", "sum"), ("turns", "sum"), ("regions", "sum")]
    )
    names = {
        "task_count": "samples",
        "negative_sum": "negative",
        "turns_sum": "turns",
        "regions_sum": "regions",
    }
    renamed = grouped.rename_columns([names.get(name, name) for name in grouped.column_names])
    rows: list[dict[str, Any]] = renamed.to_pylist()
    return rows


def as_text(dataset: Dataset, statistics: Statistics) -> str:
    """The tables, to be printed."""
    manifest = dataset.manifest
    rows = [
        (
            row["source"],
            row["task"],
            *_numbers(row["samples"], row["negative"], row["turns"] // 2, row["regions"]),
        )
        for row in statistics.rows
    ]
    totals = [
        sum(row[name] for row in statistics.rows) for name in ("samples", "negative", "turns", "regions")
    ]
    totals[2] //= 2
    head = ("source", "task", "samples", "negative", "questions", "regions")
    parts = [(part.name, *_numbers(statistics.parts[part.name], part.published)) for part in PARTS]
    if statistics.other:
        parts.append(("other", f"{statistics.other:,}", "-"))
    left_out = [
        (name, reason, f"{number:,}")
        for name, entry in manifest["sources"].items()
        for reason, number in entry.get("left_out", {}).items()
    ]
    left_out += [
        (source, kind, f"{number:,}")
        for source, kinds in (manifest.get("problems") or {}).items()
        for kind, number in kinds.items()
    ]
    left_out += [
        (name, f"evaluation picture, by {how}", f"{number:,}")
        for name, ways in (manifest.get("leaks") or {}).items()
        for how, number in ways.items()
    ]
    sections = [
        f"{manifest.get('name')}: {manifest['samples']:,} samples on {manifest.get('pictures') or 0:,} pictures, "
        f"sha256 {manifest['sha256'][:16]}",
        _table([head, *rows, ("all", "", *_numbers(*totals))]),
        _table([("part of GRIT, as the paper counts", "here", "paper, about"), *parts]),
    ]
    if left_out:
        sections.append(_table([("left out of", "why", "times"), *left_out]))
    return "\n\n".join(sections)


def _numbers(*numbers: int) -> tuple[str, ...]:
    return tuple(f"{number:,}" for number in numbers)


def _table(rows: Iterable[Sequence[str]]) -> str:
    """Columns of text: words to the left, numbers to the right."""
    listed = [list(row) for row in rows]
    widths = [max(len(row[place]) for row in listed) for place in range(len(listed[0]))]
    lines = []
    for row in listed:
        cells = [
            cell.rjust(width) if cell[:1].isdigit() or cell == "-" or place > 1 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
