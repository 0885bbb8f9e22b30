"""Stops a run at the first loss that is no number, with the batch kept that did it."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path

import torch

from openferret.errors import InputError
from openferret.train.batches.batch import Batch
from openferret.train.running.callbacks import Callback, RunStart, StepReport

_NAMED = 5  # samples in the message


class NotANumber(Callback):
    """Looks at each step's losses and gradient before the weights change, and ends the run if one is not finite.

    The batch is saved in `OUT/stopped/`: `step-000012.pt` (what the model was given; `torch.load(...,
    weights_only=True)`) and `step-000012.json` (the ids of its samples, the losses). The weights are as they were
    before, and so are the checkpoints: `--resume` goes on from the last.
    """

    def __init__(self) -> None:
        self._folder = Path()
        self._suffix = ""

    def on_start(self, run: RunStart) -> None:
        """Notes where a batch would be saved."""
        self._folder = run.recipe.out / "stopped"
        self._suffix = "" if run.processes == 1 else f"-process-{run.process}"

    def on_loss(self, report: StepReport) -> None:
        """Checks.

        Raises:
            InputError: a loss or the gradient is NaN or infinite; where the batch is, and what may help.
        """
        figures = {"loss": report.loss, "gradient": report.gradient, **report.losses}
        wrong = {name: value for name, value in figures.items() if not math.isfinite(value)}
        if not wrong:
            return
        named = ", ".join(f"{name} is {value}" for name, value in wrong.items())
        samples = [one for batch in report.batches for row in batch.samples for one in row]
        kept = self._save(report, samples)
        raise InputError(
            f"stopped before step {report.step} changed anything: {named}. {kept} Look at its samples "
            f"({', '.join(samples[:_NAMED])}{', ...' if len(samples) > _NAMED else ''}); lower learning rates "
            "(--set optimizer.rates...), a longer warm-up or precision=fp32 may help; --resume goes on from the last "
            "checkpoint."
        )

    def _save(self, report: StepReport, samples: list[str]) -> str:
        path = self._folder / f"step-{report.step:06d}{self._suffix}.pt"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            torch.save([_plain(batch) for batch in report.batches], path)
            told = {
                "step": report.step,
                "samples": samples,
                "losses": {name: str(value) for name, value in report.losses.items()},
                "gradient": str(report.gradient),
            }
            path.with_suffix(".json").write_text(json.dumps(told, indent=2), encoding="utf-8")
        except (OSError, RuntimeError) as error:
            return f"The batch could not be saved in {self._folder} ({error})."
        return f"The batch is in {path}."


def _plain(batch: Batch) -> dict[str, object]:
    """A batch as tensors, tuples and texts: what `torch.load` reads without running code."""
    return {
        one.name: {name: dict(own) for name, own in batch.targets.items()}
        if one.name == "targets"
        else getattr(batch, one.name)
        for one in fields(batch)
    }
