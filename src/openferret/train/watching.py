"""Who watches a run that was started from the command line."""

from __future__ import annotations

import sys
from pathlib import Path

from openferret.train.callbacks import Callback, RunStart, StepReport
from openferret.train.recipe import TrainingRecipe


def callbacks_for(recipe: TrainingRecipe) -> tuple[Callback, ...]:
    """The callbacks of a run."""
    return (PlainLines(),)


class PlainLines(Callback):
    """One line on stderr for each step."""

    def __init__(self) -> None:
        self._main = False
        self._steps = 0

    def on_start(self, run: RunStart) -> None:
        """Says what is about to be done."""
        self._main, self._steps = run.main, run.steps
        trained = ", ".join(f"{part} {count / 1e6:.2f} M" for part, count in run.trained.items())
        begun = f" from step {run.first_step}" if run.first_step else ""
        self._tell(
            f"{run.recipe.name}: {run.answers} dialogues in {run.rows} rows; trained: {trained}{begun}"
        )

    def on_step(self, report: StepReport) -> None:
        """Says how it went."""
        left = (self._steps - report.step) * report.seconds / 60
        self._tell(
            f"step {report.step}/{self._steps} loss {report.loss:.4f} gradient {report.gradient:.2f} "
            f"{report.tokens / report.seconds:.0f} tokens/s {report.seconds:.2f} s {report.memory / 1e9:.2f} GB "
            f"{left:.0f} min left"
        )

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Says where it is."""
        self._tell(f"saved {folder}")

    def _tell(self, text: str) -> None:
        if self._main:
            print(text, file=sys.stderr, flush=True)
