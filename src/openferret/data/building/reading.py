"""The first stage of a build: a source's files -> records in files of a few hundred, one job a source."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from openferret.checks import shorten
from openferret.data.building.engine import Result
from openferret.data.building.mixture import sample_key
from openferret.data.building.problem_log import ProblemLog
from openferret.data.building.recipe import SourceRecipe, Split
from openferret.data.building.record_files import in_batches, write_records
from openferret.data.files.atomic import read_mark, write_json
from openferret.data.files.regular import is_regular, read_regular_text
from openferret.data.files.yaml_file import check_keys
from openferret.data.problems import Problems
from openferret.data.records import Record
from openferret.data.schema import PictureReference, Sample
from openferret.data.sources import SOURCES, read_source
from openferret.data.storage.parquet import read_samples, write_samples
from openferret.data.templates.writers import check_tasks
from openferret.errors import InputError
from openferret.eval.leaks import picture_id

Item = TypeVar("Item", Record, Sample)

SAMPLES = (
    "samples"  # the kind of a source whose samples are finished, as those that a language model helped with
)
CHUNK = 512  # records in a file: the work that a kill may cost a worker
_SAMPLES = 8192  # finished samples in a file
_ANNOTATIONS = frozenset(
    {".json", ".jsonl", ".xml", ".csv", ".tsv", ".txt", ".p", ".pickle", ".yaml", ".yml", ".parquet"}
)
_PIECE = 1 << 20


def read_one(source: SourceRecipe, folder: Path, strict: bool, seed: int = 0) -> Result:
    """Reads a source from its beginning, unless it has been read.

    Args:
        source: what to read.
        folder: where its records go, in numbered files, and `done.json` when all are there.
        strict: whether a record that cannot be used ends the build.
        seed: of the recipe.

    Returns:
        `chunks` (records in each file), `left_out` (by reason), `files`, `bytes` and `sha256` of the annotations.

    Raises:
        InputError: the source cannot be read at all, or a record of it if strict.
    """
    mark = folder / "done.json"
    found = read_mark(mark)
    if found is not None:
        return found
    chunks: list[int] = []
    left_out: Counter[str] = Counter()
    with ProblemLog(folder / "problems.jsonl", source.name, strict) as problems:
        wanted = picture_filter(source.split)
        if source.kind == SAMPLES:
            samples = _of_split(_of_tasks(source, seed, left_out), wanted, left_out)
            for ready in in_batches(samples, _SAMPLES):
                chunks.append(write_samples(_file(folder, len(chunks), source), ready))
        else:
            records = _of_split(read_records(source, problems), wanted, left_out)
            for batch in in_batches(records, CHUNK):
                write_records(_file(folder, len(chunks), source), batch)
                chunks.append(len(batch))
        if not chunks and not left_out and not problems.counts:
            problems.add(
                "empty source", source.root.name, "nothing is wrong with it, but it tells of no picture"
            )
    result = {"chunks": chunks, "left_out": dict(left_out), **annotation_digest(source.root, source.kind)}
    write_json(mark, result)
    return result


def check_source(source: SourceRecipe) -> None:
    """What can be known of a source before it is read.

    Raises:
        InputError: a kind, a root, an option or a task that is not there; the message says where it stands.
    """
    where = f"sources.{source.name}"
    if source.kind not in SOURCES and source.kind != SAMPLES:
        near = difflib.get_close_matches(source.kind, [*SOURCES, SAMPLES], 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join([*SOURCES, SAMPLES])}"
        raise InputError(f"{where}.kind {shorten(source.kind)!r} is not a source; {hint}")
    if not source.root.exists():
        raise InputError(f"{where}.root {source.root} does not exist")
    if source.kind == SAMPLES:
        return
    check_keys(source.options, SOURCES[source.kind].options(), f"{where}.options")
    try:
        check_tasks(tuple(source.tasks) or None)
    except InputError as error:
        raise InputError(f"{where}.tasks: {error}") from None


def record_suffix(source: SourceRecipe) -> str:
    """Of the files that hold what was read of a source."""
    return ".parquet" if source.kind == SAMPLES else ".rec"


def _file(folder: Path, number: int, source: SourceRecipe) -> Path:
    return folder / f"{number:05d}{record_suffix(source)}"


def read_records(source: SourceRecipe, problems: Problems) -> Iterator[Record]:
    """All records of a source, whatever its split.

    Raises:
        InputError: the source cannot be read at all, or a record of it if `problems` are strict.
    """
    for record in read_source(source.kind, source.root, problems, source.pictures, **source.options):
        # Known sources bring their licence; that of one's own boxes only the recipe may know.
        own = source.licence and not record.licence
        yield replace(record, licence=source.licence or "") if own else record


def _of_tasks(source: SourceRecipe, seed: int, left_out: Counter[str]) -> Iterator[Sample]:
    """Finished samples of the tasks that the recipe names; of one with `each` those of a picture's smallest keys."""
    keys: dict[tuple[str, str], list[int]] = {}
    if any(rule.each for rule in source.tasks.values()):
        for sample in read_samples(source.root):
            rule = source.tasks.get(sample.task)
            if rule is not None and rule.each is not None and sample.picture is not None:
                keys.setdefault((sample.picture.file, sample.task), []).append(sample_key(sample.id, seed))
    largest = {name: sorted(set(found))[: source.tasks[name[1]].each][-1] for name, found in keys.items()}
    for sample in read_samples(source.root):
        most = None if sample.picture is None else largest.get((sample.picture.file, sample.task))
        if source.tasks and sample.task not in source.tasks:
            left_out["task"] += 1
        elif most is None or sample_key(sample.id, seed) <= most:
            yield sample


def _of_split(
    found: Iterator[Item], wanted: Callable[[PictureReference], bool], left_out: Counter[str]
) -> Iterator[Item]:
    for item in found:
        if item.picture is None or wanted(item.picture):
            yield item
        else:
            left_out["split"] += 1


def picture_filter(split: Split) -> Callable[[PictureReference], bool]:
    """Whether a picture may be used, by its id and the name of its file.

    Raises:
        InputError: a list that cannot be read.
    """
    only = _ids(split.only) if split.only else None
    without = _ids(split.without) if split.without else frozenset()

    def wanted(picture: PictureReference) -> bool:
        names = {picture_id(name) for name in (picture.id, picture.file) if name}
        if only is not None and not names & only:
            return False
        return not (names & without or (split.held_out and held_out(picture_id(picture.id))))

    return wanted


def held_out(name: str) -> bool:
    """Whether a picture is of the third that is never trained on: by SHA-256 of its id.

    >>> held_out("1"), held_out("3")
    (True, False)
    """
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 3 == 0


def _ids(path: Path) -> frozenset[str]:
    return frozenset(picture_id(name) for name in read_regular_text(path).split())


def annotation_files(root: Path, kind: str = "") -> list[Path]:
    """The annotation files below a folder, or the one file, by name; pictures are not among them.

    Args:
        root: of a source.
        kind: its reader; of one whose annotations are masks these are taken.

    Raises:
        InputError: the place is not there.
    """
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise InputError(f"{root} does not exist; the recipe names it as a source's root")
    masks = kind == "mask_folder"
    found = []
    for folder, below, names in os.walk(root / "masks" if masks else root):
        # The result of a build may lie below its source: it is none of the source's own.
        below[:] = [name for name in below if not _is_built(Path(folder) / name)]
        found += [
            Path(folder) / name
            for name in names
            if Path(name).suffix.lower() in ({".png"} if masks else _ANNOTATIONS)
            and is_regular(Path(folder) / name)  # no pipe, which may hang
        ]
    return sorted(found)


def _is_built(folder: Path) -> bool:
    return (folder / ".build").is_dir() or (
        (folder / "manifest.json").is_file() and (folder / "samples-00000.parquet").is_file()
    )


def annotation_digest(root: Path, kind: str = "") -> Result:
    """How many annotation files there are, their bytes, and SHA-256 of their names and contents."""
    state, count, total = hashlib.sha256(), 0, 0
    for file in annotation_files(root, kind):
        count += 1
        total += file.stat().st_size
        state.update(f"{file.relative_to(root) if root.is_dir() else file.name}\n".encode())
        with file.open("rb") as opened:
            while piece := opened.read(_PIECE):
                state.update(piece)
    return {"files": count, "bytes": total, "sha256": state.hexdigest()}


def annotation_stamp(root: Path, kind: str = "") -> list[int]:
    """What changes when the annotation files do, without reading them: count, bytes, latest change."""
    stats = [file.stat() for file in annotation_files(root, kind)]
    return [
        len(stats),
        sum(one.st_size for one in stats),
        max((one.st_mtime_ns for one in stats), default=0),
    ]
