"""Which pictures of a source get in: those that are there, sound, of the split, and in no test set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from openferret.data.building.leaks import LeakFilter, read_filter, read_hashes
from openferret.data.building.looking import look
from openferret.data.building.problem_log import ProblemLog
from openferret.data.building.reading import SAMPLES, check_source, picture_filter, read_records
from openferret.data.building.recipe import PictureCheck, Recipe
from openferret.data.problems import Problem
from openferret.data.records import Record
from openferret.data.schema import PictureReference
from openferret.errors import InputError


@dataclass
class Gate:
    """Lets pictures in, and notes why others stay out.

    Args:
        pictures: the folder of the source's pictures.
        check: whether each is opened, or looked for, or neither.
        leaks: evaluation sets.
        hashes: perceptual hashes that are known beforehand.
        problems: is told of pictures that cannot be used, and of evaluation pictures.
        kept_out: evaluation pictures by set and how they were known.
    """

    pictures: Path
    check: PictureCheck
    leaks: LeakFilter
    hashes: Mapping[str, int]
    problems: ProblemLog
    kept_out: dict[str, Counter[str]] = field(default_factory=dict)

    def admit(self, picture: PictureReference) -> PictureReference | None:
        """The picture with what was learned of it, or None.

        Raises:
            InputError: it cannot be used, and the log is strict.
        """
        seen = look(picture, self.pictures, self.check, self.leaks, self.hashes)
        if seen.leak is not None:
            name, how = seen.leak
            self.kept_out.setdefault(name, Counter())[how] += 1
            self.problems.note(
                Problem("evaluation picture", picture.file, f"it is in {name}, known by its {how}")
            )
            return None
        if seen.problem is not None:
            self.problems.add(seen.problem[0], picture.file, seen.problem[1])
            return None
        return seen.picture


def usable_records(recipe: Recipe, name: str, log: Path) -> Generator[Record]:
    """The records of one source that a build would use, for models that add to them before it.

    Whoever leaves it unfinished closes it (`contextlib.closing`): it holds the log open.

    Args:
        recipe: with the source, its split, and the evaluation sets.
        name: of the source in the recipe.
        log: a file for what cannot be used, a line each.

    Raises:
        InputError: a source that is not there or cannot be read; a record that cannot be used, if the recipe refuses
            those.
    """
    source = next((one for one in recipe.sources if one.name == name), None)
    if source is None:
        known = ", ".join(one.name for one in recipe.sources)
        raise InputError(f"the recipe has no source {name!r}; it has {known}")
    check_source(source)
    if source.kind == SAMPLES:
        raise InputError(f"sources.{name} holds finished samples; a source of annotations is needed")
    wanted = picture_filter(source.split)
    hashes = read_hashes(source.hashes) if source.hashes else {}
    with ProblemLog(log, name, recipe.bad_records == "refuse") as problems:
        gate = Gate(source.picture_folder, recipe.check_pictures, read_filter(recipe.leaks), hashes, problems)
        for record in read_records(source, problems):
            picture = gate.admit(record.picture) if wanted(record.picture) else None
            if picture is not None:
                yield replace(record, picture=picture)
