"""Loss, speed, time left and memory on the terminal: a bar where somebody looks, lines where a file does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from openferret.train.running.callbacks import Callback, RunStart, StepReport

_EVERY = 10.0  # seconds between lines
_SMOOTH = 0.9


class Pace:
    """Smoothed loss, tokens a second and seconds left; the first step, which warms up, counts least.

    Args:
        steps: of the whole run.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._loss = self._tokens = self._seconds = self._weight = 0.0
        self._last: StepReport | None = None

    def add(self, report: StepReport) -> None:
        """Takes a step in."""
        share = _SMOOTH if self._last is not None else 0.0
        self._loss = share * self._loss + (1 - share) * report.loss
        self._tokens = share * self._tokens + report.tokens
        self._seconds = share * self._seconds + report.seconds
        self._weight = share * self._weight + 1
        self._last = report

    @property
    def left(self) -> float:
        """Seconds to the end of the run."""
        done = self._last.step if self._last else 0
        return (self._steps - done) * self._seconds / max(self._weight, 1)

    def words(self) -> str:
        """One line of figures, as "loss 1.234, 5,678 tokens/s, 1.9 GB, 0:03:10 left"."""
        if self._last is None:
            return "starting"
        speed = self._tokens / max(self._seconds, 1e-9)
        left = timedelta(seconds=round(self.left))
        return f"loss {self._loss:.3f}, {speed:,.0f} tokens/s, {self._last.memory / 1e9:.1f} GB, {left} left"


class TrainingProgress(Callback):
    """Shows how a run goes, on stderr: a bar on a terminal, else a line every ten seconds.

    Args:
        console: to write to; None for stderr.
        every: seconds between lines.
    """

    def __init__(self, console: Console | None = None, every: float = _EVERY) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._every = every
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._pace = Pace(0)
        self._steps = 0
        self._said = 0.0
        self._shown = False

    def on_start(self, run: RunStart) -> None:
        """Says what is about to be done."""
        self._shown = run.main
        if not run.main:
            return
        self._pace, self._steps = Pace(run.steps), run.steps
        trained = ", ".join(f"{part} {count / 1e6:.2f} M" for part, count in run.trained.items())
        self._tell(
            f"{run.recipe.name}: {run.answers:,} dialogues in {run.rows:,} rows, {run.steps:,} steps on "
            f"{run.processes} process{'es' * (run.processes > 1)}; trained: {trained} of "
            f"{run.parameters / 1e6:.0f} M"
        )
        if run.first_step:
            self._tell(f"going on after step {run.first_step:,}")
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[words]}"),
            )
            self._bar = Progress(*columns, console=self._console)
            self._task = self._bar.add_task(
                "training", total=run.steps, completed=run.first_step, words="starting"
            )
            self._bar.start()

    def on_step(self, report: StepReport) -> None:
        """Moves on."""
        if not self._shown:
            return
        self._pace.add(report)
        if self._bar is not None:
            self._bar.update(self._task, completed=report.step, words=self._pace.words())
        elif report.step == self._steps or time.monotonic() - self._said >= self._every:
            self._said = time.monotonic()
            self._tell(f"step {report.step:,}/{self._steps:,}: {self._pace.words()}")

    def on_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Says what was measured."""
        if metrics:
            figures = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            self._tell(f"after step {step:,}: {figures}")

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Says where it is, where there is no bar."""
        if self._bar is None:
            self._tell(f"saved {folder}")

    def on_end(self, step: int, folder: Path | None) -> None:
        """Takes the bar away."""
        self._close()

    def on_failure(self, error: BaseException) -> None:
        """Takes the bar away."""
        self._close()

    def _tell(self, text: str) -> None:
        if self._shown:
            print_to = self._bar.console if self._bar is not None else self._console
            print_to.print(text, markup=False, soft_wrap=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
