"""Pictures that are not learned from, asked where their phrases are: figures, and a panel to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from openferret.data.files.atomic import whole_file
from openferret.data.marks import grounded_phrases
from openferret.data.schema import Sample
from openferret.eval.metrics.boxes import BoxNumbers
from openferret.eval.tasks.ground_classes import Wanted, grounding_benchmark
from openferret.loading import LoadedModel
from openferret.predictor import Scene
from openferret.regions import Box
from openferret.train.batches.bucketing import split_pictures
from openferret.train.batches.gathering import gather
from openferret.train.monitoring.asking import ask
from openferret.train.monitoring.panels import PanelPicture, draw_panel
from openferret.train.recipes.recipe import TrainingRecipe
from openferret.train.running.callbacks import Callback, RunStart

_PHRASES = 6  # of a picture: more make no panel that can be read


@dataclass(frozen=True)
class KeptPicture:
    """A picture that is asked about.

    Attributes:
        key: its name.
        load: gives it, upright RGB; InputError if it cannot be had.
        phrases: what is looked for, and its boxes in 0..1; none for what is not there.
    """

    key: str
    load: Callable[[], Image.Image]
    phrases: Mapping[str, tuple[BoxNumbers, ...]]


class KeptBackPictures(Callback):
    """Asks kept-back pictures where their phrases are, and draws `OUT/panels/step-000100.png`.

    Args:
        pictures: gives them, given the recipe; asked in the process that writes only.
        panel: folder to draw in.
    """

    def __init__(self, pictures: Callable[[TrainingRecipe], Sequence[KeptPicture]], panel: Path) -> None:
        self._find, self._panel = pictures, panel
        self._pictures: Sequence[KeptPicture] = ()

    def on_start(self, run: RunStart) -> None:
        """Finds the pictures."""
        if run.main:
            self._pictures = self._find(run.recipe)

    def on_evaluate(self, step: int, loaded: LoadedModel, losses: Mapping[str, float]) -> dict[str, float]:
        """Asks and draws.

        Returns:
            `kept-back/R@1`, `kept-back/F1 of boxes` and what else `ground-classes` counts.
        """
        if not self._pictures:
            return {}
        by_key = {one.key: one for one in self._pictures}
        wanted = [Wanted(one.key, *pair) for one in self._pictures for pair in one.phrases.items()]
        benchmark = grounding_benchmark(wanted, {})
        shown: list[PanelPicture] = []

        def look(encode: Callable[[Image.Image], Scene], key: str) -> Scene:
            picture = by_key[key]
            scene = encode(picture.load())
            shown.append(_shown(scene, picture))
            return scene

        replies = ask(loaded, benchmark.questions, look)
        if shown:
            with whole_file(self._panel / f"step-{step:06d}.png") as partial:
                draw_panel(shown).save(partial, "PNG")
        figures = benchmark.score(benchmark.questions, replies).figures
        return {
            f"kept-back/{one.name}": one.estimate.value for one in figures if one.estimate.value is not None
        }


def _shown(scene: Scene, picture: KeptPicture) -> PanelPicture:
    truth = tuple(
        Box(x1 * scene.width, y1 * scene.height, x2 * scene.width, y2 * scene.height)
        for boxes in picture.phrases.values()
        for x1, y1, x2, y2 in boxes
    )
    answer = scene.ground(list(picture.phrases))
    return PanelPicture(scene.image, answer, truth, f"{Path(picture.key).name} (yellow: as labelled)")


def pictures_of_builds(recipe: TrainingRecipe, most: int) -> list[KeptPicture]:
    """The first `most` pictures that `data.validation` keeps back and that have phrases with boxes."""
    if not most or not recipe.data.validation:
        return []
    gathered = gather(recipe.data.build, recipe.data.cache or recipe.out / "cache")
    found: list[KeptPicture] = []
    for number in split_pictures(gathered, recipe.data.validation)[1]:
        samples = gathered.samples(range(int(gathered.first[number]), int(gathered.first[number + 1])))
        phrases = phrases_of(samples)
        reference = samples[0].picture
        if phrases and reference is not None:
            build = gathered.build_of(number)
            load = _loader(build.load_picture, reference)
            found.append(KeptPicture(reference.file, load, phrases))
        if len(found) == most:
            break
    return found


def _loader(load: Callable[..., Image.Image], reference: object) -> Callable[[], Image.Image]:
    return lambda: load(reference)


def phrases_of(samples: Iterable[Sample], most: int = _PHRASES) -> dict[str, tuple[BoxNumbers, ...]]:
    """The first phrases with boxes that samples of one picture have in their answers, boxes in 0..1."""
    found: dict[str, tuple[BoxNumbers, ...]] = {}
    for sample in samples:
        for words, boxes in _grounded(sample):
            if len(found) < most:
                found.setdefault(words, boxes)
    return found


def _grounded(sample: Sample) -> Iterator[tuple[str, tuple[BoxNumbers, ...]]]:
    picture = sample.picture
    if picture is None:
        return
    for turn in sample.turns[1::2]:
        for one in grounded_phrases(turn.text):
            boxes = [sample.box(index) for index in one.regions]
            if one.phrase.strip():
                yield (
                    one.phrase.strip().lower(),
                    tuple(
                        (
                            box.x1 / picture.width,
                            box.y1 / picture.height,
                            box.x2 / picture.width,
                            box.y2 / picture.height,
                        )
                        for box in boxes
                    ),
                )
