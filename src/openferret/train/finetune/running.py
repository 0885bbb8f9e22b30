"""A fine-tuning from the first look at the data to a model folder; each part is done once, whatever interrupts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from openferret.data.files.atomic import read_mark, write_json
from openferret.errors import InputError, WeightsError
from openferret.images import load_image
from openferret.kit.assemble import ensure_kit
from openferret.loading import load_model
from openferret.train.finetune.measuring import Change, benchmarks_of, compare, measure
from openferret.train.finetune.own_data import OwnData, OwnPicture, check_own_data, read_own_data
from openferret.train.finetune.pace import measure_pace
from openferret.train.finetune.samples import write_build
from openferret.train.finetune.splitting import split_pictures
from openferret.train.finetune.stages import (
    Effort,
    say_objectives,
    say_recipe,
    see_objectives,
    see_recipe,
)
from openferret.train.finetune.start import NOUNS, prepare_start, write_folder
from openferret.train.finetune.views import View, make_views
from openferret.train.monitoring.choosing import callbacks_for
from openferret.train.monitoring.kept_back import KeptPicture
from openferret.train.objectives.objective import Objective
from openferret.train.recipes.recipe import TrainingRecipe
from openferret.train.running.callbacks import Callback
from openferret.train.running.loop import run_training
from openferret.train.weights.checkpoint import explained_disk

Tell = Callable[[str], None]
_NEEDED = 3_500_000_000  # bytes: three models of Kit's size, a checkpoint, parts and features
_TRIED = 6  # pictures of a trial
_PANEL = 8


@dataclass(frozen=True)
class Settings:
    """What a fine-tuning is told.

    Attributes:
        data: annotations.
        images: folder of the pictures.
        out: folder of the result.
        model: "kit" or a model folder.
        effort: how long and how hard.
        held_out: share of the pictures that is measured on.
        skip_bad: leave out classes without boxes, and pictures that are missing or damaged.
    """

    data: Path
    images: Path
    out: Path
    model: str = "kit"
    effort: Effort = field(default_factory=Effort)
    held_out: float = 0.2
    skip_bad: bool = False

    def identity(self) -> dict[str, Any]:
        """What a run that goes on must share with the one that was begun."""
        effort = self.effort
        return {
            "data": str(self.data.resolve()),
            "images": str(self.images.resolve()),
            "model": self.model if self.model == "kit" else str(Path(self.model).resolve()),
            "effort": [effort.see, effort.say, effort.rate, effort.seed, effort.mirror],
            "held_out": self.held_out,
            "skip_bad": self.skip_bad,
        }


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        folder: of the model.
        changes: figures of the held-out part, before and after.
        held_out: pictures of that part.
    """

    folder: Path
    changes: tuple[Change, ...]
    held_out: int


def look_at(settings: Settings, show: Callable[[OwnData], None]) -> OwnData:
    """Reads the data, shows what was found, and says whether it can be learned from.

    Raises:
        InputError: it cannot; the table has been shown by then.
    """
    found = read_own_data(settings.data, settings.images)
    show(found)
    return check_own_data(found, settings.skip_bad)


def finetune(settings: Settings, data: OwnData, tell: Tell, resume: bool = False) -> Outcome:
    """Teaches a model one's own boxes.

    Args:
        settings: of it.
        data: as `look_at` gives it.
        tell: is told what is done, a line at a time.
        resume: go on with what is in `settings.out`.

    Returns:
        The model folder, `out / "model"`, and what was measured.

    Raises:
        InputError: the folder cannot be used, or the disk or memory is full; what was done is kept.
        WeightsError: the model cannot be opened.
    """
    if settings.model != "kit" and not (Path(settings.model) / "config.json").is_file():
        raise WeightsError(
            f"there is no model in {settings.model}: give 'kit' or a folder with a config.json"
        )
    with _opened(settings, data, resume), _explained(settings.effort):
        return _Work(settings, data, tell).do()


class _Work:
    """One fine-tuning that is being done."""

    def __init__(self, settings: Settings, data: OwnData, tell: Tell) -> None:
        self._settings, self._data, self._tell = settings, data, tell
        self._place = settings.out / "work"
        self._learned, self._held = split_pictures(data.pictures, settings.held_out, settings.effort.seed)
        self._benchmarks = benchmarks_of(self._held, data.classes)
        self._start = self._place / "start"
        self._nouns: list[str] = []

    def do(self) -> Outcome:
        """Everything that is not done yet."""
        settings, out = self._settings, self._settings.out
        if (out / "report.json").is_file():
            changes = compare(self._benchmarks, out / "before", out / "after")
            return Outcome(out / "model", tuple(changes), len(self._held))
        if settings.effort.threads:
            torch.set_num_threads(settings.effort.threads)
        self._tell(f"{len(self._learned)} pictures to learn from, {len(self._held)} held out to measure on")
        self._nouns = prepare_start(settings.model, self._data.classes, self._start)
        views = make_views(self._learned, self._place / "parts", settings.effort.seed)
        built = self._built(views, self._place / "data")
        if read_mark(self._place / "pace.json") is None:
            self._tell(f"this will take about {self._estimate(views)} on this machine as it is now")
        self._measured("before", settings.model)
        last = self._start
        for recipe, objectives in self._runs(built, self._place, views):
            last = self._run(recipe, objectives)
        self._publish(last)
        self._measured("after", str(out / "model"))
        changes = compare(self._benchmarks, out / "before", out / "after")
        write_json(
            out / "report.json",
            {
                "pictures": {"learned": len(self._learned), "held out": len(self._held)},
                "classes": list(self._data.classes),
                "figures": [one.to_dict() for one in changes],
            },
        )
        shutil.rmtree(self._place, ignore_errors=True)
        return Outcome(out / "model", tuple(changes), len(self._held))

    def _built(self, views: Sequence[View], place: Path) -> Path:
        folders = {"own": self._settings.images, "parts": self._place / "parts"}
        return write_build(views, self._data.classes, folders, place)

    def _runs(
        self, built: Path, place: Path, views: Sequence[View]
    ) -> Iterator[tuple[TrainingRecipe, tuple[Objective, ...]]]:
        """The runs and what each learns; the second begins where the first ends."""
        effort, rows = self._settings.effort, len(views)
        begin = self._start
        start = load_model(self._start, engine="reference")
        objectives = see_objectives(start, self._data.classes, self._nouns)
        if objectives and effort.see:
            namer = start.model.model.namer is not None
            recipe = see_recipe(begin, built, place, effort, rows, namer)
            yield recipe, objectives
            begin = begin if place != self._place else recipe.out / "model"
        if effort.say:
            yield say_recipe(begin, built, place, effort, rows), say_objectives()

    def _estimate(self, views: Sequence[View]) -> str:
        trial = self._place / "trial"
        few = views[: 3 * _TRIED]
        built = self._built(few, trial / "data")
        runs = list(self._runs(built, trial, few))
        paths = [one.path for one in self._learned]
        pace = measure_pace(self._start, runs, paths, self._benchmarks, trial)
        steps = {"see": self._settings.effort.see, "say": self._settings.effort.say}
        kept = {name: steps[name] for name in pace.steps}
        seen = len(views) * (2 if self._settings.effort.mirror else 1)
        seconds = pace.seconds(seen, kept, len(self._held))
        write_json(
            self._place / "pace.json",
            {"seconds": seconds, "picture": pace.picture, "asked": pace.asked, **pace.steps},
        )
        return in_words(seconds)

    def _measured(self, when: str, model: str) -> None:
        out = self._settings.out / when
        if all((out / one.task / "results.json").is_file() for one in self._benchmarks):
            return
        self._tell(f"asking the held-out pictures, {when}")
        folder = ensure_kit() if model == "kit" else Path(model)
        with torch.inference_mode():
            measure(load_model(model), folder, self._benchmarks, out)

    def _run(self, recipe: TrainingRecipe, objectives: Sequence[Objective]) -> Path:
        folder, mark = recipe.out / "model", recipe.out / "done.json"
        if read_mark(mark) is None:
            callbacks: tuple[Callback, ...] = callbacks_for(recipe, lambda _: self._panel())
            run_training(recipe, callbacks, objectives, resume=True)
            write_json(mark, {"steps": recipe.steps})
        return folder

    def _panel(self) -> list[KeptPicture]:
        return [_kept(one) for one in self._held if one.boxes][:_PANEL]

    def _publish(self, last: Path) -> None:
        """The last run's model in half precision, as Kit's is, with the names of its nouns and the runs' logs."""
        target = self._settings.out / "model"
        if not (target / NOUNS).is_file():
            loaded = load_model(last, engine="reference")
            loaded.model.half()
            write_folder(loaded, self._nouns, target)
        for name in ("see", "say"):
            for kept in ("log.jsonl", "tensorboard", "panels"):
                source, goal = self._place / name / kept, self._settings.out / "runs" / name / kept
                if source.exists() and not goal.exists():
                    goal.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copytree(source, goal) if source.is_dir() else shutil.copy2(source, goal)


@contextmanager
def _explained(effort: Effort) -> Iterator[None]:
    """The loop's advice about memory, in the options of this command."""
    try:
        yield
    except InputError as error:
        if not str(error).startswith("out of memory"):
            raise
        if effort.at_once == 1:
            raise InputError("out of memory with one picture at once: close other programs") from error
        raise InputError(
            f"out of memory with up to {effort.at_once} pictures at once: the same command with "
            f"--batch {effort.at_once // 2} --resume goes on with less, and comes to the same"
        ) from error


def _kept(picture: OwnPicture) -> KeptPicture:
    return KeptPicture(picture.file, lambda: load_image(picture.path), dict(list(picture.boxes.items())[:6]))


def in_words(seconds: float) -> str:
    """A time for a person, as "7 minutes".

    >>> in_words(30), in_words(400), in_words(8000)
    ('1 minute', '7 minutes', '2 h 13 min')
    """
    minutes = max(1, round(seconds / 60))
    if minutes < 100:
        return f"{minutes} minute{'s' * (minutes > 1)}"
    hours, rest = divmod(timedelta(minutes=minutes), timedelta(hours=1))
    return f"{hours} h {round(rest.total_seconds() / 60)} min"


@contextmanager
def _opened(settings: Settings, data: OwnData, resume: bool) -> Iterator[None]:
    """Holds the folder, once it is known to be new or to be this fine-tuning's, and to have room.

    Raises:
        InputError: it cannot be used.
    """
    out, mark = settings.out, settings.out / "finetune.json"
    begun, boxes = read_mark(mark), data.digest()
    if begun is None and out.is_dir() and any(out.iterdir()):
        raise InputError(f"--out {out} is not empty and holds no fine-tuning: give another folder")
    if begun is not None and not resume:
        raise InputError(
            f"--out {out} holds a fine-tuning already: go on with --resume, or give another folder"
        )
    if begun is not None and begun.get("settings") != settings.identity():
        raise InputError(f"--out {out} was begun with other data, model or options: give another folder")
    if begun is not None and begun.get("boxes", boxes) != boxes:
        raise InputError(
            f"the boxes or pictures are not those that {out} was begun with: put them back to go on, or give another "
            "folder"
        )
    with explained_disk(out):
        out.mkdir(parents=True, exist_ok=True)
        if begun is None and (free := shutil.disk_usage(out).free) < _NEEDED:
            raise InputError(
                f"a fine-tuning needs about {_NEEDED / 1e9:.1f} GB while it runs, and {free / 1e9:.1f} GB are free "
                f"at {out}: make room, or give an --out on another disk"
            )
        lock = FileLock(out / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f"another fine-tuning is at work in {out}: let it finish") from None
    try:
        if begun is None:
            write_json(mark, {"settings": settings.identity(), "boxes": boxes})
        yield
    finally:
        lock.release()
