"""Who does the jobs: this process, processes of this machine, or a Ray cluster.

A job is a function of the module level and what it is given; it reads files, writes files of its own, and
returns a small result. What comes out is the same whoever does it, in whatever order.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, Self, TypeAlias

from openferret.errors import InputError

Result: TypeAlias = dict[str, Any]
ENGINES = ("local", "ray")
_MOST_WORKERS = 4096


@dataclass(frozen=True)
class Job:
    """A function of the module level, and its arguments; both are pickled for another process."""

    work: Callable[..., Result]
    arguments: tuple[Any, ...]


class Engine(Protocol):
    """Does jobs; used as a context manager, which starts what the engine needs and ends it whatever happened."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: object) -> None: ...

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Result]]:
        """Does all jobs and gives (place in `jobs`, result) as they end, in any order."""


def check_engine(name: str, workers: int) -> None:
    """Refuses an engine that is not known, and absurd numbers of workers, as InputError."""
    if not 1 <= workers <= _MOST_WORKERS:
        raise InputError(f"--workers must lie between 1 and {_MOST_WORKERS}, not {workers}")
    if name not in ENGINES:
        raise InputError(f"--engine must be one of {', '.join(ENGINES)}, not {name!r}")


def open_engine(name: str, workers: int) -> Engine:
    """The engine of that name.

    Args:
        name: `local` or `ray`.
        workers: processes here, or jobs at a time on the cluster.

    Raises:
        InputError: another name, fewer than one worker, or `ray` without Ray.
    """
    check_engine(name, workers)
    if name == "ray":
        from openferret.data.building.ray_engine import RayEngine

        return RayEngine(workers)
    return InProcess() if workers == 1 else Processes(workers)


class InProcess:
    """Does the jobs one after the other, here."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        return None

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Result]]:
        """Does all jobs in order."""
        for place, job in enumerate(jobs):
            yield place, job.work(*job.arguments)


def _end_with_parent() -> None:
    """In a worker: ends it when the build is killed.

    Otherwise it would wait for jobs for ever, after writing its last files beside those of the run that goes on.
    """
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


class Processes:
    """Does the jobs in processes of this machine, `workers` at a time."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        # A fresh process, not a fork: forks of a process with threads (arrow's, the progress bar's) may hang.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Result]]:
        """Does all jobs; few are handed out ahead, so that an error or Ctrl-C ends soon.

        Raises:
            InputError: a process was ended from outside.
        """
        coming = iter(enumerate(jobs))
        running: dict[Future[Result], int] = {}
        try:
            while True:
                for place, job in islice(coming, 2 * self._workers - len(running)):
                    running[self._pool.submit(job.work, *job.arguments)] = place
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool:
            raise InputError(
                "a worker process was ended from outside (often: no memory left); run the same command again, "
                "with fewer --workers, and it goes on where it stopped"
            ) from None
