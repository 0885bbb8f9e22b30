"""From a recipe to a data set: read, write, choose, join; each step is jobs that leave marks.

1. Each source is read into files of a few hundred records (`reading`).
2. Each of these is turned into samples, its pictures looked at, evaluation pictures left out (`writing`).
3. Samples are chosen and ordered by the hashes of their ids (`joining.find_order`).
4. Each shard of the result is written (`joining.join_shard`), pictures are packed if the recipe says so.
5. The manifest is written; only now the folder holds a data set.

Nothing depends on which worker did what, or when: the same recipe and sources give the same rows in the same
order, and the same digest. A job that has left its mark is not done again, so a build that was killed goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from openferret import __version__
from openferret.data.building.candidates import read_columns
from openferret.data.building.engine import Engine, Job, Result, check_engine, open_engine
from openferret.data.building.inputs import input_digests
from openferret.data.building.joining import Chunk, Order, find_order, join_shard
from openferret.data.building.leaks import read_filter
from openferret.data.building.looking import write_filter
from openferret.data.building.manifest import make_manifest, read_manifest
from openferret.data.building.packing import pack_pictures, plan_tars
from openferret.data.building.problem_log import gather, problem_line
from openferret.data.building.reading import (
    annotation_digest,
    annotation_stamp,
    check_source,
    read_one,
    record_suffix,
)
from openferret.data.building.recipe import Recipe, SourceRecipe
from openferret.data.building.workspace import Workspace, clear, opened
from openferret.data.building.writing import Writing, write_one
from openferret.data.files.atomic import read_mark, whole_file, write_json
from openferret.data.files.regular import check_path
from openferret.data.problems import Problem
from openferret.data.sources import SOURCES
from openferret.errors import InputError

Progress = Callable[[str, int, int], None]


def build(
    recipe: Recipe,
    out: Path,
    workers: int = 1,
    engine: str = "local",
    progress: Progress = lambda step, done, total: None,
) -> dict[str, Any]:
    """Builds a data set, or goes on with one that was begun.

    Args:
        recipe: what it is made of.
        out: the folder to make; empty, missing, or one that an earlier run of the same recipe has begun.
        workers: jobs at a time.
        engine: `local` or `ray`.
        progress: is told the step, how many of its jobs are done, and how many there are.

    Returns:
        The manifest.

    Raises:
        InputError: a source, the folder, or (if the recipe refuses bad records) a record that cannot be used;
            or the disk is full. Run the same again, and it goes on.
    """
    check_engine(engine, workers)
    check_path(out, "--out")
    for source in recipe.sources:
        check_source(source)
    if (out / "manifest.json").is_file():
        return _finished(recipe, out)
    with opened(out, _build_key(recipe)) as place:
        if read_mark(place.leaks) is None:
            write_filter(place.leaks, read_filter(recipe.leaks))
        with open_engine(engine, workers) as doing:
            run = _Run(recipe, place, doing, progress)
            sources = run.read()
            chunks, written = run.write(sources)
            order = find_order(chunks, recipe)
            shards = run.join(chunks, order)
            tars = run.pack(chunks, order)
        manifest = run.describe(sources, written, chunks, order, shards, tars)
        write_json(place.manifest, manifest)
    clear(place)
    return manifest


class _Run:
    """One build: its steps, in order."""

    def __init__(self, recipe: Recipe, place: Workspace, engine: Engine, progress: Progress) -> None:
        self._recipe, self._place, self._engine, self._progress = recipe, place, engine, progress

    def read(self) -> list[Result]:
        """Reads the sources; for each what its job tells."""
        strict = self._recipe.bad_records == "refuse"
        jobs = [
            Job(read_one, (one, self._place.records(one.name), strict, self._recipe.seed))
            for one in self._recipe.sources
        ]
        return self._do("reading", jobs)

    def write(self, sources: Sequence[Result]) -> tuple[list[Chunk], list[Result]]:
        """Writes samples; the files they are in, and for each what its job tells."""
        chunks, jobs = [], []
        for source, result in zip(self._recipe.sources, sources, strict=True):
            for number in range(len(result["chunks"])):
                target = self._place.samples(source.name) / f"{number:05d}.arrow"
                records = self._place.records(source.name) / f"{number:05d}{record_suffix(source)}"
                chunks.append(Chunk(source.name, target))
                jobs.append(Job(write_one, (Writing.of(self._recipe, source, self._place), records, target)))
        return chunks, self._do("writing", jobs)

    def join(self, chunks: Sequence[Chunk], order: Order) -> list[Result]:
        """Writes the shards of the result."""
        with whole_file(self._place.order) as partial, partial.open("wb") as file:
            np.save(file, order.entries)
        size = self._recipe.shard_size
        paths = [chunk.path for chunk in chunks]
        jobs = [
            Job(
                join_shard,
                (
                    *(number, size, self._place.order, paths),
                    *(self._place.out / f"samples-{number:05d}.parquet", self._place.joined(number)),
                ),
            )
            for number in range(-(-len(order.entries) // size))
        ]
        return self._do("joining", jobs)

    def pack(self, chunks: Sequence[Chunk], order: Order) -> list[str]:
        """Packs the pictures, if the recipe says so; the names of the tar files."""
        if self._recipe.pictures != "tar":
            return []
        folders = {one.name: one.picture_folder for one in self._recipe.sources}
        marks = self._place.hidden / "packed"
        jobs = [
            Job(
                pack_pictures,
                (
                    *(names, folders, self._place.out / f"pictures-{number:05d}.tar"),
                    marks / f"{number:05d}.json",
                ),
            )
            for number, names in enumerate(plan_tars(chunks, order))
        ]
        return [result["file"] for result in self._do("packing", jobs)]

    def describe(
        self,
        sources: Sequence[Result],
        written: Sequence[Result],
        chunks: Sequence[Chunk],
        order: Order,
        shards: Sequence[Result],
        tars: Sequence[str],
    ) -> dict[str, Any]:
        """Gathers the problems in one file, and gives the manifest."""
        logs = [
            *(self._place.records(one.name) / "problems.jsonl" for one in self._recipe.sources),
            *(chunk.path.with_suffix(".jsonl") for chunk in chunks),
        ]
        problems = gather(logs, _repeated_lines(chunks, order), self._place.problems)
        leaks: dict[str, Counter[str]] = {one.name: Counter() for one in self._recipe.leaks.sets}
        for result in written:
            for name, ways in result["leaks"].items():
                leaks[name].update(ways)
        described = {
            one.name: _describe_source(one, result)
            for one, result in zip(self._recipe.sources, sources, strict=True)
        }
        return make_manifest(
            *(self._recipe, shards, order.counts, len(order.pictures), described, problems, leaks, tars),
            input_digests(self._recipe),
        )

    def _do(self, step: str, jobs: Sequence[Job]) -> list[Result]:
        results: list[Result | None] = [None] * len(jobs)
        self._progress(step, 0, len(jobs))
        for done, (number, result) in enumerate(self._engine.run(jobs), 1):
            results[number] = result
            self._progress(step, done, len(jobs))
        return [result for result in results if result is not None]


def _build_key(recipe: Recipe) -> str:
    """What a build depends on: the recipe, its sources and this version. Which machine or workers, it does not."""
    stamps = {one.name: annotation_stamp(one.root, one.kind) for one in recipe.sources}
    content = json.dumps(
        [__version__, asdict(recipe), stamps, input_digests(recipe)], sort_keys=True, default=str
    )
    return hashlib.sha256(content.encode()).hexdigest()


def _finished(recipe: Recipe, out: Path) -> dict[str, Any]:
    manifest = read_manifest(out)
    if manifest.get("recipe_sha256") != recipe.digest:
        raise InputError(f"{out} holds a data set of another recipe: choose another folder for --out")
    changed = _changed(recipe, manifest)
    if changed:
        raise InputError(
            f"{out} holds a data set that was made before {', '.join(changed)} changed: choose another folder for "
            "--out, or delete this one"
        )
    clear(Workspace(out))
    return manifest


def _changed(recipe: Recipe, manifest: Mapping[str, Any]) -> list[str]:
    """What a finished data set was made of that is no more what it was."""
    # Data sets of earlier versions do not tell of all their inputs.
    now, then = input_digests(recipe), manifest.get("inputs") or {}
    changed = [key for key in now if key in then and now[key] != then[key]]
    for one in recipe.sources:
        stated = manifest["sources"].get(one.name, {}).get("annotations")
        if stated and stated != annotation_digest(one.root, one.kind):
            changed.append(f"sources.{one.name}")
    return changed


def _repeated_lines(chunks: Sequence[Chunk], order: Order) -> Iterator[str]:
    for place in np.unique(order.repeated[:, 0]):
        chunk = chunks[int(place)]
        (ids,) = read_columns(chunk.path, "id")
        for row in order.repeated[order.repeated[:, 0] == place, 1]:
            name = str(ids[int(row)].as_py())
            yield problem_line(
                chunk.source, Problem("id stands twice", name, "an earlier sample has this id; it was kept")
            )


def _describe_source(source: SourceRecipe, result: Result) -> dict[str, Any]:
    kind = SOURCES.get(source.kind)
    return {
        "kind": source.kind,
        "title": kind.title if kind else "finished samples",
        "licence": source.licence or (kind.licence if kind else ""),
        "pictures": str(source.picture_folder.resolve()),
        "records": sum(result["chunks"]),
        "left_out": result["left_out"],
        "annotations": {name: result[name] for name in ("files", "bytes", "sha256")},
    }
