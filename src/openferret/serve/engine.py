"""One thread that holds the model: takes requests in fair turn, reads pictures once, writes answers together."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

import numpy as np
import torch
from PIL import Image

from openferret.answer import Answer
from openferret.errors import InputError
from openferret.generation.prefix import PicturePrefix
from openferret.loading import LoadedModel
from openferret.predictor import Ferret
from openferret.regions import Box
from openferret.scene import Scene
from openferret.serve import work
from openferret.serve.caches import ByteCache
from openferret.serve.errors import ServeError, internal_error, shutting_down
from openferret.serve.fair import FairQueue
from openferret.serve.jobs import Job, Subject
from openferret.serve.metrics import Metrics
from openferret.serve.rows import AbandonedError, Row, write_rows
from openferret.serve.work import Outcome, Whole, Written

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineSettings:
    """How much an engine takes on.

    Attributes:
        cache_bytes: of pictures that have been read, with the language model's cache of each.
        waiting: requests that wait.
        waiting_of_client: of one client.
        rows: answers written together.
    """

    cache_bytes: int = 1_000_000_000
    waiting: int = 256
    waiting_of_client: int = 128
    rows: int = 32


class Engine:
    """Answers requests on one model.

    Args:
        loaded: the model.
        settings: how much it takes on.
        metrics: counted in.
    """

    def __init__(
        self, loaded: LoadedModel, settings: EngineSettings = EngineSettings(), metrics: Metrics | None = None
    ) -> None:
        self.ferret = Ferret(loaded)
        self.metrics = metrics or Metrics()
        self._queue: FairQueue[Job] = FairQueue(settings.waiting, settings.waiting_of_client, settings.rows)
        self._scenes: ByteCache[Scene] = ByteCache(settings.cache_bytes)
        self._warm = Event()
        self._thread = Thread(target=self._run, name="openferret-engine", daemon=True)
        self.metrics.gauge("openferret_waiting", "Requests that wait.", lambda: len(self._queue))
        self.metrics.gauge(
            "openferret_cache_bytes", "Bytes of pictures that have been read.", lambda: self._scenes.held
        )

    @property
    def name(self) -> str:
        """Of the model."""
        return self.ferret.name

    @property
    def ready(self) -> bool:
        """Whether it has answered once and goes on answering."""
        return self._warm.is_set() and self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether it goes on answering, or still gets ready to."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Starts the thread, which first asks itself something."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Puts a request in the queue; ServeError 429 if it is full."""
        self._queue.put(job)

    def cancel(self, job: Job) -> None:
        """Nobody waits any more: the request leaves the queue, or ends with its next token."""
        if not job.result.done():
            self.metrics.cancelled.inc()
        job.leave()
        job.result.cancel()
        self._queue.discard(job)

    def forget(self, digest: str) -> None:
        """Drops what was read of a picture."""
        self._scenes.drop(digest)

    def close(self, seconds: float) -> None:
        """Refuses those who wait and stops the thread; waits so long for it to end."""
        for job in self._queue.close():
            job.fail(shutting_down())
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        self._warm_up()
        while jobs := self._queue.take(_together):
            try:
                self._serve(jobs)
            except Exception as error:
                self._report(error)
                for job in jobs:
                    job.fail(internal_error())

    def _warm_up(self) -> None:
        """Reads a picture and answers as it will for clients, so that the first of them does not wait."""
        try:
            scene = self.ferret.encode(Image.linear_gradient("L"))
            _bytes_of(scene.prefix)
            (question,) = work.refer([Box(32, 32, 224, 224)], None, 4).ask(scene)
            write_rows(scene, [Row(question, 4), Row(question, 2)], 0.0, 0)
            scene.ground("a square", max_new_tokens=4)
        except Exception as error:
            self._report(error)
            return
        self._warm.set()

    def _serve(self, jobs: Sequence[Job]) -> None:
        jobs = [job for job in jobs if not job.gone]
        if not jobs:
            return
        begun = time.perf_counter()
        try:
            scene, encode = self._scene(jobs[0].picture)
        except Exception as error:
            self._fail(jobs, error)
            return
        for job in jobs:
            self.metrics.stages.labels("queue").observe(begun - job.submitted)
        for job in jobs:
            if isinstance(job.work, Whole):
                self._do(job, job.work, scene, {"queue": begun - job.submitted, "encode": encode})
        asked = self._ask(scene, jobs)
        self._write(scene, asked, begun, encode)

    def _do(self, job: Job, whole: Whole, scene: Scene, seconds: dict[str, float]) -> None:
        started = time.perf_counter()
        try:
            answers = whole.run(scene, lambda: job.gone)
        except AbandonedError:
            return
        except Exception as error:
            self._fail([job], error)
            return
        taken = time.perf_counter() - started
        self.metrics.stages.labels("decode").observe(taken)
        job.finish(Outcome(answers, seconds | {"prefill": 0.0, "decode": taken}))

    def _ask(self, scene: Scene, jobs: Iterable[Job]) -> list[_Asked]:
        asked = []
        for job in jobs:
            if isinstance(job.work, Written):
                try:
                    rows = [self._row(job, job.work, question) for question in job.work.ask(scene)]
                except Exception as error:
                    self._fail([job], error)
                else:
                    asked.append(_Asked(job, job.work, rows))
        return asked

    def _row(self, job: Job, written: Written, question: Any) -> Row:
        tokenizer = self.ferret.loaded.processor.tokenizer

        def watch(ids: Sequence[int]) -> None:
            job.show(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

        return Row(
            question,
            written.max_new_tokens,
            lambda: job.gone,
            watch if job.on_text is not None and written.rows == 1 else None,
        )

    def _write(self, scene: Scene, asked: Sequence[_Asked], begun: float, encode: float) -> None:
        """Writes answers together; if that fails each alone, so that one request's fault stays its own."""
        while asked := [one for one in asked if not one.job.gone]:
            rows = [row for one in asked for row in one.rows]
            how = asked[0].work
            try:
                written = iter(write_rows(scene, rows, how.temperature, how.seed))
                self.metrics.batch_rows.observe(len(rows))
                for one in asked:
                    own = [next(written) for _ in one.rows]
                    answers = tuple(
                        one.work.read(scene, number, row.question, text)
                        for number, (row, text) in enumerate(zip(one.rows, own, strict=True))
                    )
                    seconds = {"queue": begun - one.job.submitted, "encode": encode, **own[0].seconds}
                    self._finish(one.job, answers, seconds, one.rows, own, scene.prefix)
                return
            except AbandonedError:
                continue
            except Exception as error:
                if len(asked) == 1:
                    self._fail([asked[0].job], error)
                    return
                self._report(error)
                for one in asked:
                    if not one.job.result.done():
                        self._write(scene, [one], begun, encode)
                return

    def _finish(
        self,
        job: Job,
        answers: tuple[Answer, ...],
        seconds: dict[str, float],
        rows: Sequence[Row],
        written: Sequence[Any],
        prefix: PicturePrefix,
    ) -> None:
        new = sum(len(one.ids) for one in written)
        self.metrics.tokens.inc(new)
        for stage in ("prefill", "decode"):
            self.metrics.stages.labels(stage).observe(seconds[stage])
        asked = sum(len(row.question.ids) + prefix.length for row in rows)
        job.finish(Outcome(answers, seconds, asked, new, all(one.complete for one in written)))

    def _scene(self, picture: Subject) -> tuple[Scene, float]:
        scene = self._scenes.get(picture.digest)
        self.metrics.pictures.labels("miss" if scene is None else "hit").inc()
        if scene is not None:
            return scene, 0.0
        scene = self.ferret.encode(picture.image)
        self.metrics.stages.labels("encode").observe(scene.seconds)
        self._scenes.put(picture.digest, scene, picture.held + _bytes_of(scene.prefix))
        return scene, scene.seconds

    def _fail(self, jobs: Iterable[Job], error: Exception) -> None:
        if not isinstance(error, InputError | ServeError):
            self._report(error)
        for job in jobs:
            job.fail(error)

    def _report(self, error: Exception) -> None:
        """Says what failed and where, but nothing of what was asked."""
        self.metrics.failures.inc()
        trace, place = error.__traceback__, "nowhere"
        while trace is not None:
            place = f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"
            trace = trace.tb_next
        _log.error("the model failed: %s in %s", type(error).__name__, place)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A job whose questions are written."""

    job: Job
    work: Written
    rows: list[Row]


def _together(first: Job, second: Job) -> bool:
    """Whether two jobs on one picture can be written together: both take the likeliest tokens."""
    return all(isinstance(job.work, Written) and job.work.temperature == 0 for job in (first, second))


def _bytes_of(value: object, depth: int = 6) -> int:
    """Bytes of all tensors and arrays in a picture's prefix, whichever engine's cache is in it."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return int(value.nbytes)
    if depth == 0:
        return 0
    if isinstance(value, dict):
        return sum(_bytes_of(one, depth - 1) for one in value.values())
    if isinstance(value, list | tuple):
        return sum(_bytes_of(one, depth - 1) for one in value)
    return sum(_bytes_of(one, depth - 1) for one in getattr(value, "__dict__", {}).values())
