"""What may watch a run: the loop calls, and whoever listens logs, draws, measures or stops it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openferret.train.recipes.recipe import TrainingRecipe

if TYPE_CHECKING:
    from pathlib import Path

    from openferret.loading import LoadedModel
    from openferret.train.batches.batch import Batch


@dataclass(frozen=True)
class RunStart:
    """A run that is about to begin or to go on.

    Attributes:
        recipe: of the run.
        first_step: steps that are done already: 0, or those of the checkpoint. Whatever was logged of later steps
            belongs to work that was lost with a kill and will be done again: drop it.
        steps: of the whole run.
        rows: of one epoch.
        answers: dialogues of one epoch.
        trained: numbers of trained parameters, by part.
        parameters: of the whole model.
        main: whether this is the process that writes files and talks to the person.
        process: rank of this process.
        processes: how many there are.
    """

    recipe: TrainingRecipe
    first_step: int
    steps: int
    rows: int
    answers: int
    trained: Mapping[str, int]
    parameters: int
    main: bool
    process: int
    processes: int


@dataclass(frozen=True)
class StepReport:
    """One optimiser step, added up over all processes.

    Attributes:
        step: 1 for the first.
        loss: what was minimised: the weighted sum of `losses`.
        losses: each loss by its name: its sum / its count.
        by_task: mean language-model loss of a supervised token, by task.
        rates: learning rate of each part in this step.
        gradient: length of the gradient before it was clipped.
        tokens: that went through, padding not counted.
        supervised: tokens that were learned.
        answers: dialogues.
        padding: share of the places that were padding.
        seconds: of the step, waiting for data included.
        waited: seconds of these that the step waited for data.
        memory: most bytes this process has held so far: resident on CPUs, allocated on GPUs.
        epoch: of the data, with its fraction.
        batches: what went through this process, for whoever must save or look at it (a NaN guard).
    """

    step: int
    loss: float
    losses: Mapping[str, float]
    by_task: Mapping[str, float]
    rates: Mapping[str, float]
    gradient: float
    tokens: int
    supervised: int
    answers: int
    padding: float
    seconds: float
    waited: float
    memory: int
    epoch: float
    batches: tuple[Batch, ...]


class Callback:
    """Does nothing; override what you need. Every process calls all of them, in the same order.

    Raise `openferret.errors.InputError` from any of them to end the run with one line; raise it in every process.
    """

    def on_start(self, run: RunStart) -> None:
        """Before the first step."""

    def on_loss(self, report: StepReport) -> None:
        """The step's losses and gradient are known, and the weights have *not* been changed yet.

        A guard against NaN raises here: the weights are still sound, and a checkpoint of them can be made.
        """

    def on_step(self, report: StepReport) -> None:
        """After the weights have changed."""

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """A checkpoint is whole, in its place and verified."""

    def on_evaluate(self, step: int, loaded: LoadedModel, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Every `recipe.every.evaluate` steps, and after the last.

        Args:
            step: that is done.
            loaded: the model, in evaluation mode and without gradients, with its processor: what `Ferret` and the
                `eval` tasks take. The loop puts it back into training mode.
            losses: of the validation pictures, by name; empty if the recipe keeps none back.

        Returns:
            What was measured, by name; the loop hands the callbacks' figures together to `on_metrics`.
        """
        return {}

    def on_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Everything that was measured at a step."""

    def on_end(self, step: int, folder: Path | None) -> None:
        """The run ended well; `folder` is the model folder, or None in processes that did not write it."""

    def on_failure(self, error: BaseException) -> None:
        """The run ends with an error (or Ctrl-C); close files here."""
