"""Boxes by class -> samples in Kit's own questions: where is it, is it there, what is this."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from openferret import prompts
from openferret.data.building.pipeline import build
from openferret.data.building.recipe import Recipe, SourceRecipe
from openferret.data.marks import escape_marks
from openferret.data.schema import PictureReference, Provenance, Sample, Turn
from openferret.data.storage.parquet import write_samples
from openferret.phrases import with_determiner
from openferret.regions import Box
from openferret.train.finetune.views import View
from openferret.train.objectives.locator import ABSENT_KEY

_REFERRED = 3  # boxes of a class and view that are asked about
_ABSENT = 2  # classes of a view that are asked about and not there


def write_build(views: Sequence[View], classes: Sequence[str], folders: dict[str, Path], place: Path) -> Path:
    """Writes the samples of views as a data set that `openferret train` reads.

    Args:
        views: to learn from.
        classes: all of them.
        folders: of the pictures of each source.
        place: the folder to make.

    Returns:
        The data set's folder.

    Raises:
        InputError: it cannot be written.
    """
    sources = []
    for source, pictures in folders.items():
        written = place / f"{source}.parquet"
        own = [one for one in views if one.source == source]
        if own:
            write_samples(written, (sample for view in own for sample in view_samples(view, classes)))
            sources.append(SourceRecipe(source, "samples", written, pictures, {}, {}))
    recipe = Recipe("own boxes", tuple(sources), check_pictures="exists", bad_records="refuse")
    build(recipe, place / "built")
    return place / "built"


def view_samples(view: View, classes: Sequence[str]) -> Iterator[Sample]:
    """The samples of one view: for each class on it its place, its presence and its name; and classes not on it.

    What is labelled is taken to be all there is: a class without a box is asked for as not being there, unless there
    was one that cannot be used.
    """
    for name, boxes in view.boxes.items():
        phrase, pixels = escape_marks(with_determiner(name)), [_pixels(view, box) for box in boxes]
        marks = " ".join(f"<box:{number}>" for number in range(len(pixels)))
        grounded = f"<phrase>{phrase} {marks}"
        yield _sample(
            view, f"ground {name}", prompts.GROUND.format(phrase=phrase), grounded, pixels, "ground"
        )
        yield _sample(
            view,
            f"exists {name}",
            prompts.EXISTS.format(phrase=phrase),
            f"{prompts.YES}{grounded}.",
            pixels,
            "exists",
        )
        for number, box in enumerate(pixels[:_REFERRED]):
            question = prompts.REFER.format(region="<region:0>")
            yield _sample(view, f"refer {name} {number}", question, phrase, [box], "refer")
    absent = [name for name in classes if name not in view.boxes and name not in view.unsure]
    chance = np.random.default_rng(zlib.crc32(f"{view.source} {view.file}".encode()))
    for index in chance.permutation(len(absent))[:_ABSENT]:
        phrase = with_determiner(absent[index])
        for task, question, answer in (
            ("ground", prompts.GROUND, prompts.ABSENT),
            ("exists", prompts.EXISTS, prompts.NO),
        ):
            yield _sample(
                view,
                f"no {task} {absent[index]}",
                question.format(phrase=escape_marks(phrase)),
                answer,
                [],
                task,
                phrase,
            )


def _sample(
    view: View,
    name: str,
    question: str,
    answer: str,
    boxes: Sequence[Box],
    task: str,
    absent: str | None = None,
) -> Sample:
    return Sample(
        f"{view.source}/{view.file} {name}",
        PictureReference(view.file, view.width, view.height, view.source, view.file),
        (Turn("user", question), Turn("assistant", answer)),
        tuple(boxes),
        provenance=Provenance(source=view.source),
        negative=absent is not None,
        task=task,
        extra={} if absent is None else {ABSENT_KEY: absent},
    )


def _pixels(view: View, box: tuple[float, float, float, float]) -> Box:
    x1, y1, x2, y2 = box
    return Box(x1 * view.width, y1 * view.height, x2 * view.width, y2 * view.height)
