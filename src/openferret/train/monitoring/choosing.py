"""Who watches a run that a recipe describes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from openferret.train.monitoring.asking import TaskMetrics
from openferret.train.monitoring.boards import open_boards
from openferret.train.monitoring.guard import NotANumber
from openferret.train.monitoring.kept_back import KeptBackPictures, KeptPicture, pictures_of_builds
from openferret.train.monitoring.lines import JsonLines
from openferret.train.monitoring.progress import TrainingProgress
from openferret.train.recipes.recipe import TrainingRecipe
from openferret.train.running.callbacks import Callback


def callbacks_for(
    recipe: TrainingRecipe,
    pictures: Callable[[TrainingRecipe], Sequence[KeptPicture]] | None = None,
) -> tuple[Callback, ...]:
    """The callbacks of a run: guard, questions to pictures kept back, tasks, log, dashboards, progress.

    Args:
        recipe: of the run; `recipe.monitor` chooses.
        pictures: gives the pictures of the panel; None for those that `data.validation` keeps back.

    Raises:
        InputError: a dashboard that does not exist.
    """
    monitor = recipe.monitor
    panels = recipe.out / "panels"
    find = pictures or (lambda given: pictures_of_builds(given, monitor.pictures))
    return (
        NotANumber(),
        KeptBackPictures(find, panels),
        TaskMetrics(monitor.tasks),
        JsonLines(),
        *open_boards(monitor.boards, panels),
        TrainingProgress(),
    )
