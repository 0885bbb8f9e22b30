"""`log.jsonl`: a line of JSON for each step and each evaluation, for whoever plots a run himself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from openferret.errors import InputError
from openferret.train.monitoring.figures import step_figures
from openferret.train.running.callbacks import Callback, RunStart, StepReport

NAME = "log.jsonl"


class JsonLines(Callback):
    """Writes `OUT/log.jsonl`; of a run that goes on, lines of steps that were lost with a kill are dropped.

    A line is `{"step": 12, "loss": ..., ...}` after a step, `{"step": 12, "metrics": {...}}` after an evaluation.
    A number that JSON does not have (NaN, infinity) is written as null.
    """

    def __init__(self) -> None:
        self._stream: TextIO | None = None

    def on_start(self, run: RunStart) -> None:
        """Opens the file.

        Raises:
            InputError: it cannot be written.
        """
        if not run.main:
            return
        path = run.recipe.out / NAME
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            drop_later(path, run.first_step)
            self._stream = path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror or error}") from None

    def on_step(self, report: StepReport) -> None:
        """Writes the step's figures."""
        self._write({"step": report.step, **_finite(step_figures(report))})

    def on_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes what was measured."""
        if metrics:
            self._write({"step": step, "metrics": _finite(metrics)})

    def on_end(self, step: int, folder: Path | None) -> None:
        """Closes the file."""
        self._close()

    def on_failure(self, error: BaseException) -> None:
        """Closes the file."""
        self._close()

    def _write(self, record: Mapping[str, Any]) -> None:
        if self._stream is None:
            return
        try:
            print(json.dumps(record), file=self._stream, flush=True)
        except OSError as error:
            raise InputError(
                f"{self._stream.name} cannot be written: {error.strerror or error}; make room, and go on with --resume"
            ) from None

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(OSError):  # of a full disk, which `_write` has told
                stream.close()


def drop_later(path: Path, step: int) -> None:
    """Keeps the lines of steps up to `step`; later ones, and a torn last line, are dropped.

    Raises:
        OSError: the file cannot be rewritten.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    partial = path.with_suffix(".part")
    partial.write_text("".join(kept), encoding="utf-8")
    partial.replace(path)


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {
        name: round(value, 8) if math.isfinite(value) else None for name, value in sorted(figures.items())
    }
