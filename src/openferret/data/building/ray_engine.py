"""Jobs on a Ray cluster. Its nodes must share the folders of the sources and of the result, under the same paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

from openferret.data.building.engine import Job, Result
from openferret.errors import InputError

_RETRIES = -1  # without end: a node that is lost is no fault of the job


class RayEngine:
    """Does jobs on the cluster that `RAY_ADDRESS` names, or on one that is started here.

    A job whose node is lost is done again elsewhere: it writes the same files, whole or not at all.

    Args:
        workers: jobs at a time.

    Raises:
        InputError: Ray is not installed.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        try:
            import ray
        except ImportError:
            raise InputError("--engine ray needs Ray: pip install 'openferret[ray]'") from None
        self._ray: Any = ray
        self._started_here = False

    def __enter__(self) -> Self:
        if not self._ray.is_initialized():
            self._ray.init(log_to_driver=False, include_dashboard=False)
            self._started_here = True
        return self

    def __exit__(self, *raised: object) -> None:
        if self._started_here:
            self._ray.shutdown()

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Result]]:
        """Does all jobs, `workers` at a time.

        Raises:
            InputError: what a job raised, or the cluster's own failure in one line.
        """
        work = self._ray.remote(max_retries=_RETRIES, num_cpus=1)(_do)
        coming = iter(enumerate(jobs))
        running: dict[Any, int] = {}
        try:
            while True:
                while len(running) < self._workers and (following := next(coming, None)) is not None:
                    place, job = following
                    running[work.remote(job)] = place
                if not running:
                    return
                (done, *_), _ = self._ray.wait(list(running), num_returns=1)
                yield running.pop(done), self._ray.get(done)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(str(error.cause)) from None
            raise
        except self._ray.exceptions.RayError as error:
            raise InputError(
                f"the Ray cluster failed ({type(error).__name__}); run the same again"
            ) from error


def _do(job: Job) -> Result:
    return job.work(*job.arguments)
