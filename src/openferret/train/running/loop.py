"""The training loop: one for a laptop and a cluster.

A step: count what every process has of each loss, run its passes, add gradients up, clip, change the weights. Losses
are sums divided by the counts of the whole step, so that they do not depend on how the step was cut up.
"""

from __future__ import annotations

import math
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from openferret.errors import InputError
from openferret.train.batches.batch import IGNORED, PADDING, Batch
from openferret.train.batches.streaming import stream_batches
from openferret.train.objectives.objective import MONITOR, Objective
from openferret.train.recipes.recipe import TrainingRecipe
from openferret.train.running.callbacks import Callback, RunStart, StepReport
from openferret.train.running.failures import explained
from openferret.train.running.memory import keep_memory, memory_peak
from openferret.train.running.schedule import rate_scale
from openferret.train.running.setup import Run, set_up
from openferret.train.weights.checkpoint import (
    begin_checkpoint,
    checkpoints,
    explained_disk,
    finish_checkpoint,
    open_checkpoint,
    partial_folder,
)
from openferret.train.weights.parts import parameter_groups
from openferret.train.weights.result import write_model


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        folder: the model folder.
        steps: that were done in all.
        loss: of the last step; NaN if nothing was left to do.
        main: whether this process wrote the folder.
    """

    folder: Path
    steps: int
    loss: float
    main: bool = True


def run_training(
    recipe: TrainingRecipe,
    callbacks: Sequence[Callback] = (),
    objectives: Sequence[Objective] | None = None,
    resume: bool = False,
) -> RunResult:
    """Trains a model.

    Args:
        recipe: what and how.
        callbacks: that watch the run.
        objectives: that give the losses; None for those of the model.
        resume: go on from the newest checkpoint in `recipe.out`; from the beginning if there is none.

    Returns:
        The model folder, `recipe.out / "model"`, and how it ended.

    Raises:
        InputError: something cannot be used, found or written, memory or the disk is full, or somebody stopped the
            run. Whatever was saved before is still there, and `resume` goes on from it.
        WeightsError: the model that it should begin with cannot be opened.

    Example:
        >>> from openferret.train.recipes.reading import load_recipe
        >>> run_training(load_recipe("finetune", ["data.build=[built]"]))  # doctest: +SKIP
    """
    place = recipe.out / "checkpoints"
    if not resume and checkpoints(place):
        raise InputError(
            f"{recipe.out} already holds a run: go on with it with --resume, or give another `out`"
        )
    if (recipe.out / "model").exists() and not checkpoints(place):
        raise InputError(
            f"{recipe.out / 'model'} exists and no checkpoint of a run is beside it: it would be replaced at the end; "
            "give another `out`, or move it away"
        )
    keep_memory()
    run = set_up(recipe, objectives)
    try:
        with _locked(recipe.out, run.parallel.process), explained(recipe, 0, run.parallel.processes):
            return _Loop(run, tuple(callbacks), place).train(resume)
    except BaseException as error:
        for one in callbacks:
            one.on_failure(error)
        raise
    finally:
        run.parallel.close()


class _Loop:
    """A run that is being done."""

    def __init__(self, run: Run, callbacks: tuple[Callback, ...], place: Path) -> None:
        self._run, self._callbacks, self._place = run, callbacks, place
        self._recipe, self._parallel = run.recipe, run.parallel
        groups = parameter_groups(run.module, self._recipe, "model.")
        own = self._recipe.optimizer
        for group in groups:
            group["betas"] = (own.beta1, own.beta2)
        self._called, self._optimizer = self._parallel.prepare(run.module, groups)
        self._stopping = False

    def train(self, resume: bool) -> RunResult:
        """From the beginning or a checkpoint to the end."""
        recipe, steps = self._recipe, self._run.plan.steps
        found = open_checkpoint(self._place, self._run.identity) if resume else None
        done = 0
        if found is not None:
            done, folder = found
            self._parallel.load(folder, self._called, self._optimizer)
        self._tell_start(done, steps)
        loss = math.nan
        accumulation = recipe.batch.accumulation(self._parallel.processes)
        place = (self._parallel.process, self._parallel.processes)
        coming = stream_batches(
            self._run.reader, self._run.plan, accumulation, done, steps, recipe.data.workers, *place
        )
        with self._stoppable():
            for step in range(done + 1, steps + 1):
                started = time.perf_counter()
                with explained(recipe, step):
                    batches = next(coming)
                waited = time.perf_counter() - started
                with explained(recipe, step, self._parallel.processes):
                    report = self._step(step, steps, batches, started, waited)
                loss = report.loss
                for one in self._callbacks:
                    one.on_step(report)
                self._after(step, steps)
        folder = self._finish(steps)
        return RunResult(folder, steps, loss, self._parallel.process == 0)

    def _step(self, step: int, steps: int, batches: list[Batch], started: float, waited: float) -> StepReport:
        recipe, parallel = self._recipe, self._parallel
        moved = [batch.to(parallel.device) for batch in batches]
        divisors = self._total([self._run.module.counts(batch) for batch in batches])
        known = [name for name in divisors if not name.startswith(MONITOR)]
        if unknown := [name for name in recipe.losses if name not in known]:
            raise InputError(
                f"the recipe weighs a loss {unknown[0]!r}; those of this run are {', '.join(known)}"
            )
        self._called.train()
        scale = rate_scale(step, steps, recipe.optimizer.warmup, recipe.optimizer.floor)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * scale
        sums: list[Mapping[str, float]] = []
        for number, batch in enumerate(moved):
            torch.manual_seed(_pass_seed(recipe.seed, step, number, parallel.process))
            with parallel.passing(self._called, last=number + 1 == len(moved)):
                total, parts = self._called(batch, divisors)
                parallel.backward(total * parallel.gradient_scale)
            sums.append({name: float(value) for name, value in parts.items()})
        length = parallel.clip(self._called, recipe.optimizer.clip)
        figures = self._total([*sums, *({f"#{k}": v for k, v in _sizes(b).items()} for b in batches)])
        means = {name: figures[name] / count for name, count in divisors.items() if count and name in figures}
        report = StepReport(
            step=step,
            loss=sum(self._run.module.weight(name) * value for name, value in means.items()),
            losses={name: value for name, value in means.items() if not name.startswith(MONITOR)},
            by_task={
                name.removeprefix(MONITOR): value for name, value in means.items() if name.startswith(MONITOR)
            },
            rates={part: rate * scale for part, rate in recipe.rates.items()},
            gradient=length,
            tokens=int(figures["#tokens"]),
            supervised=int(figures["#supervised"]),
            answers=int(figures["#answers"]),
            padding=1 - figures["#tokens"] / max(figures["#places"], 1),
            seconds=time.perf_counter() - started,
            waited=waited,
            memory=memory_peak(parallel.device),
            epoch=step / self._run.plan.steps_per_epoch,
            batches=tuple(batches),
        )
        for one in self._callbacks:
            one.on_loss(report)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return report

    def _after(self, step: int, steps: int) -> None:
        """Checkpoint, evaluation, and an end that somebody asked for."""
        every = self._recipe.every
        stopping = any(self._parallel.gather(self._stopping))
        if step == steps or stopping or (every.checkpoint and step % every.checkpoint == 0):
            self._save(step)
        if stopping and step < steps:
            raise InputError(f"stopped after step {step} of {steps}; the same command with --resume goes on")
        if every.evaluate and (step % every.evaluate == 0 or step == steps):
            self._evaluate(step)

    def _save(self, step: int) -> None:
        parallel = self._parallel
        if parallel.process == 0:
            begin_checkpoint(self._place, step)
        parallel.wait()
        try:
            with explained_disk(self._place):
                parallel.save(partial_folder(self._place, step), self._called, self._optimizer)
            parallel.wait()
            if parallel.process == 0:
                finish_checkpoint(self._place, step, self._run.identity, self._recipe.every.keep)
        except InputError:
            if parallel.process == 0:
                shutil.rmtree(partial_folder(self._place, step), ignore_errors=True)
            raise
        parallel.wait()
        for one in self._callbacks:
            one.on_checkpoint(step, dict(checkpoints(self._place))[step])

    def _evaluate(self, step: int) -> None:
        self._called.eval()
        with torch.no_grad():
            losses = self._validation_losses()
            metrics = {f"validation/{name}": value for name, value in losses.items()}
            for one in self._callbacks:
                metrics |= one.on_evaluate(step, self._run.loaded, losses)
        for one in self._callbacks:
            one.on_metrics(step, metrics)

    def _validation_losses(self) -> dict[str, float]:
        plan, parallel = self._run.validation, self._parallel
        if plan is None:
            return {}
        sums: list[Mapping[str, float]] = []
        counts: list[Mapping[str, float]] = []
        for rows in plan.all_rows(parallel.process, parallel.processes):
            batch = self._run.reader.batch(rows)
            counts.append(self._run.module.counts(batch))
            _, parts = self._called(batch.to(parallel.device), {})
            sums.append({name: float(value) for name, value in parts.items()})
        figures, divisors = self._total(sums), self._total(counts)
        return {
            name: figures[name] / count for name, count in divisors.items() if count and MONITOR not in name
        }

    def _finish(self, steps: int) -> Path:
        folder = self._recipe.out / "model"
        tensors = self._parallel.whole_tensors(self._called)
        main = self._parallel.process == 0
        if main:
            write_model(self._recipe, tensors, folder)
        self._parallel.wait()
        for one in self._callbacks:
            one.on_end(steps, folder if main else None)
        return folder

    def _total(self, figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Added up over passes and processes; every process must ask."""
        total: dict[str, float] = {}
        for own in self._parallel.gather(list(figures)):
            for one in own:
                for name, value in one.items():
                    total[name] = total.get(name, 0.0) + value
        return total

    def _tell_start(self, done: int, steps: int) -> None:
        run, parallel = self._run, self._parallel
        start = RunStart(
            recipe=self._recipe,
            first_step=done,
            steps=steps,
            rows=run.plan.rows,
            answers=run.plan.answers,
            trained=run.trained,
            parameters=run.parameters,
            main=parallel.process == 0,
            process=parallel.process,
            processes=parallel.processes,
        )
        for one in self._callbacks:
            one.on_start(start)

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Ctrl-C or SIGTERM: the step is ended and saved; a second one ends at once."""

        def stop(number: int, frame: Any) -> None:
            if self._stopping:
                raise KeyboardInterrupt
            self._stopping = True

        before: dict[int, Any] = {}
        with suppress(ValueError):  # not in the main thread: then nobody can interrupt it either
            before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _pass_seed(*parts: int) -> int:
    """Of what is random in a forward pass: the same when the step is done again after a kill."""
    seed = 0
    for part in parts:
        seed = (seed * 1_000_003 + part + 1) % 2**63
    return seed


def _sizes(batch: Batch) -> dict[str, float]:
    return {
        "tokens": batch.tokens,
        "places": batch.segments.numel(),
        "supervised": int((batch.labels != IGNORED).sum()),
        "answers": batch.answers,
        "padding": int((batch.segments == PADDING).sum()),
    }


@contextmanager
def _locked(out: Path, process: int) -> Iterator[None]:
    """One run at a time in a folder."""
    if process:
        yield
        return
    with explained_disk(out):
        out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another run is writing to {out}; wait for it, or give another `out`") from None
    try:
        yield
    finally:
        lock.release()
