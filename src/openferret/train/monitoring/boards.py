"""Dashboards: TensorBoard by default, trackio where it is asked for; one that is not installed is skipped by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from openferret.errors import InputError
from openferret.train.monitoring.figures import step_figures
from openferret.train.running.callbacks import Callback, RunStart, StepReport

BOARDS = ("tensorboard", "trackio")
_HINTS = {"tensorboard": "pip install 'openferret[train]'", "trackio": "pip install 'openferret[trackio]'"}


def open_boards(names: tuple[str, ...], panels: Path | None = None) -> tuple[Callback, ...]:
    """The dashboards of those names that are installed; of the others a line on stderr says so.

    Args:
        names: of `BOARDS`.
        panels: folder of the panels (`step-000100.png`) that are shown beside the figures.

    Raises:
        InputError: an unknown name.
    """
    if unknown := [name for name in names if name not in BOARDS]:
        raise InputError(f"there is no dashboard {unknown[0]!r}; known are {', '.join(BOARDS)}")
    made = []
    for name in names:
        if find_spec(name) is None:
            print(f"{name} is not installed and is left out: {_HINTS[name]}", file=sys.stderr)
        else:
            made.append(TensorBoard(panels) if name == "tensorboard" else Trackio(panels))
    return tuple(made)


class TensorBoard(Callback):
    """Writes `OUT/tensorboard`; `tensorboard --logdir OUT/tensorboard` shows it.

    Args:
        panels: folder of the panels; None for none.
    """

    def __init__(self, panels: Path | None = None) -> None:
        self._panels = panels
        self._writer: Any = None

    def on_start(self, run: RunStart) -> None:
        """Opens the writer; what an earlier part of the run wrote of later steps is purged."""
        if not run.main:
            return
        from torch.utils.tensorboard import SummaryWriter

        folder = run.recipe.out / "tensorboard"
        self._writer = SummaryWriter(str(folder), purge_step=run.first_step + 1, flush_secs=20)

    def on_step(self, report: StepReport) -> None:
        """Writes the step's figures."""
        self._scalars(report.step, step_figures(report))

    def on_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes what was measured, and the panel."""
        self._scalars(step, metrics)
        panel = _panel(self._panels, step)
        if self._writer is not None and panel is not None:
            self._writer.add_image(panel.parent.name, _pixels(panel), step, dataformats="HWC")
            self._writer.flush()

    def on_end(self, step: int, folder: Path | None) -> None:
        """Closes the writer."""
        self._close()

    def on_failure(self, error: BaseException) -> None:
        """Closes the writer."""
        self._close()

    def _scalars(self, step: int, figures: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Trackio(Callback):
    """Logs to trackio's local store; `trackio show` opens it.

    Args:
        panels: folder of the panels; None for none.
    """

    def __init__(self, panels: Path | None = None) -> None:
        self._panels = panels
        self._run: Any = None
        self._library: Any = None

    def on_start(self, run: RunStart) -> None:
        """Begins a run of trackio's, in a project of the recipe's name."""
        if not run.main:
            return
        self._library = import_module("trackio")
        self._run = self._library.init(project=run.recipe.name, name=run.recipe.out.name, resume="allow")

    def on_step(self, report: StepReport) -> None:
        """Logs the step's figures."""
        self._log(report.step, step_figures(report))

    def on_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs what was measured, and the panel."""
        panel = _panel(self._panels, step)
        shown = {panel.parent.name: self._library.Image(str(panel))} if self._run and panel else {}
        self._log(step, {**metrics, **shown})

    def on_end(self, step: int, folder: Path | None) -> None:
        """Ends trackio's run."""
        self._close()

    def on_failure(self, error: BaseException) -> None:
        """Ends trackio's run."""
        self._close()

    def _log(self, step: int, figures: Mapping[str, Any]) -> None:
        if self._run is not None and figures:
            self._run.log(dict(figures), step=step)

    def _close(self) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None


def _panel(folder: Path | None, step: int) -> Path | None:
    path = None if folder is None else folder / f"step-{step:06d}.png"
    return path if path is not None and path.is_file() else None


def _pixels(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(path, formats=("PNG",)) as image:
        return np.asarray(image.convert("RGB"), np.uint8)
