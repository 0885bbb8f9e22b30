"""The second stage of a build: a file of records -> a file of samples, one job a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from openferret.data.building.candidates import write_candidates
from openferret.data.building.engine import Result
from openferret.data.building.gate import Gate
from openferret.data.building.leaks import read_hashes
from openferret.data.building.looking import read_filter_file
from openferret.data.building.mixture import sample_key
from openferret.data.building.problem_log import ProblemLog
from openferret.data.building.recipe import PictureCheck, Recipe, SourceRecipe, TaskRule
from openferret.data.building.record_files import read_records
from openferret.data.building.workspace import Workspace
from openferret.data.files.atomic import read_mark, write_json
from openferret.data.negatives.kept_analogies import load_analogies
from openferret.data.outlines import Outline, RunLengths, outline_runs
from openferret.data.records import Record
from openferret.data.schema import PictureReference, Sample
from openferret.data.storage.parquet import read_samples
from openferret.data.templates.writers import WriterSettings, make_settings, write_record
from openferret.errors import InputError


@dataclass(frozen=True)
class Writing:
    """What writing the samples of one source depends on.

    Args:
        source: its name in the recipe.
        pictures: folder of its pictures.
        tasks: what is written; empty for all.
        hashes: perceptual hashes known beforehand.
        seed: of every choice.
        negatives: questions about what is absent for one about what is there.
        templates: a file of phrasings; None for the one that ships.
        analogies: a file of what might be there instead; None for the table that ships.
        check: whether pictures are opened, or looked for, or neither.
        leaks: file of the evaluation sets' ids and hashes.
        strict: whether a record that cannot be used ends the build.
    """

    source: str
    pictures: Path
    tasks: Mapping[str, TaskRule]
    hashes: Path | None
    seed: int
    negatives: float
    templates: Path | None
    analogies: Path | None
    check: PictureCheck
    leaks: Path
    strict: bool

    @classmethod
    def of(cls, recipe: Recipe, source: SourceRecipe, place: Workspace) -> Writing:
        """For one source of a recipe."""
        return cls(
            source.name,
            source.picture_folder,
            source.tasks,
            source.hashes,
            recipe.seed,
            recipe.negatives,
            recipe.templates,
            recipe.analogies,
            recipe.check_pictures,
            place.leaks,
            recipe.bad_records == "refuse",
        )


def write_one(writing: Writing, records: Path, target: Path) -> Result:
    """Writes the samples of one file of records, unless they have been written.

    Args:
        writing: how.
        records: of `reading.read_one`: `.rec` (records), or `.parquet` (finished samples).
        target: of the samples; the problems go beside it (`.jsonl`), and the mark (`.json`).

    Returns:
        `samples`, and `leaks` by evaluation set and how that was known.

    Raises:
        InputError: the disk is full, a file is damaged, or a record cannot be used if strict.
    """
    mark = target.with_suffix(".json")
    found = read_mark(mark)
    if found is not None:
        return found
    with ProblemLog(target.with_suffix(".jsonl"), writing.source, writing.strict) as problems:
        desk = _Desk(writing, problems)
        desk.write_samples(records) if records.suffix == ".parquet" else desk.write_records(records)
    write_candidates(target, writing.source, desk.samples, writing.seed)
    result = {
        "samples": len(desk.samples),
        "leaks": {name: dict(ways) for name, ways in desk.gate.kept_out.items()},
    }
    write_json(mark, result)
    return result


class _Desk:
    """One chunk while its samples are written."""

    def __init__(self, writing: Writing, problems: ProblemLog) -> None:
        self._writing, self._problems = writing, problems
        hashes = _hashes(writing.hashes) if writing.hashes else {}
        leaks = read_filter_file(writing.leaks)
        self.gate = Gate(writing.pictures, writing.check, leaks, hashes, problems)
        self.samples: list[Sample] = []

    def write_records(self, path: Path) -> None:
        """Every sample of every record whose picture can be used."""
        how = self._writing
        settings = load_settings(how.seed, how.negatives, how.templates, how.analogies)
        tasks = tuple(self._writing.tasks) or None
        for record in read_records(path):
            picture = self.gate.admit(record.picture)
            if picture is not None:
                written = self._written(_filled_in(record, picture), settings, tasks)
                self.samples.extend(self._limited(written))

    def _written(
        self, record: Record, settings: WriterSettings, tasks: tuple[str, ...] | None
    ) -> Iterator[Sample]:
        try:
            yield from write_record(record, settings, tasks)
        except InputError as error:  # a record that no reader should have let through
            self._problems.add("record cannot be written", record.picture.file, str(error))

    def write_samples(self, path: Path) -> None:
        """Samples that were finished before, of the pictures that can be used."""
        looked: dict[PictureReference, PictureReference | None] = {}
        for sample in read_samples(path):
            picture = sample.picture
            if picture is not None and picture not in looked:
                looked[picture] = self.gate.admit(picture)
            if picture is None or looked[picture] is not None:
                seen = None if picture is None else looked[picture]
                self.samples.append(replace(sample, picture=seen))

    def _limited(self, written: Iterator[Sample]) -> Iterator[Sample]:
        """At most `each` samples of a task, those of the smallest keys."""
        by_task: dict[str, list[Sample]] = {}
        for sample in written:
            by_task.setdefault(sample.task, []).append(sample)
        for task, samples in by_task.items():
            most = self._writing.tasks[task].each if task in self._writing.tasks else None
            if most is not None and len(samples) > most:
                samples.sort(key=lambda one: sample_key(one.id, self._writing.seed))
            yield from samples[:most]


def _filled_in(record: Record, picture: PictureReference) -> Record:
    """The record with what was learned of its picture, and each outline drawn once, not for every sample."""
    if any(thing.outline is not None for thing in record.objects) and picture.known_size:
        objects = tuple(replace(thing, outline=_runs(thing.outline, picture)) for thing in record.objects)
        return replace(record, picture=picture, objects=objects)
    return replace(record, picture=picture)


def _runs(outline: Outline | None, picture: PictureReference) -> RunLengths | None:
    if outline is None:
        return None
    try:
        return outline_runs(outline, picture.width, picture.height)
    except InputError:  # it covers nothing: the box is used
        return None


@lru_cache(maxsize=2)  # the sources of a recipe may share a file; it is read once in a process
def _hashes(path: Path) -> Mapping[str, int]:
    return read_hashes(path)


def load_settings(
    seed: int, negatives: float, templates: Path | None = None, analogies: Path | None = None
) -> WriterSettings:
    """A recipe's settings of the writers; files are read once in a process, unless they change.

    Raises:
        InputError: a file that cannot be used.
    """
    files = [file for file in (templates, analogies) if file is not None and file.is_file()]
    return _settings(seed, negatives, templates, analogies, tuple(file.stat().st_mtime_ns for file in files))


@lru_cache(maxsize=2)
def _settings(
    seed: int, negatives: float, templates: Path | None, analogies: Path | None, changed: tuple[int, ...]
) -> WriterSettings:
    settings = make_settings(seed, negatives, templates)
    if analogies is None:
        return settings
    return replace(settings, analogies=load_analogies(analogies, settings.analogies))
