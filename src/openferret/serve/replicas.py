"""The ingress's side of a Ray Serve deployment: requests go to replicas, and once more if one is lost."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import numpy as np

from openferret.loading import LoadedModel
from openferret.ray_cluster import connect
from openferret.serve.caches import ByteCache
from openferret.serve.engine import EngineSettings
from openferret.serve.errors import ServeError, busy, internal_error, shutting_down
from openferret.serve.jobs import Job, Subject
from openferret.serve.metrics import Metrics
from openferret.serve.replica import Question, Refusal, Replica
from openferret.serve.work import Outcome

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_PICTURES_OF_REPLICA = 128  # that the router remembers of each, to send questions where a picture was read
_LENT_BYTES = 512_000_000


@dataclass(frozen=True)
class ReplicaSettings:
    """How many replicas there are, and what each may use.

    Attributes:
        least: replicas at any time.
        most: under load; equal to `least`: always as many.
        cpus: of each, which are also the threads of its model.
        gpus: of each.
        ongoing: requests of a replica at which another one is started.
        engine: of each replica.
    """

    least: int = 1
    most: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    ongoing: float = 8.0
    engine: EngineSettings = field(default_factory=EngineSettings)


class RayReplicas:
    """Answers requests on replicas of a model, on the cluster of `RAY_ADDRESS` or one that is started here.

    A request whose replica is lost before any of its text was shown is asked once more, elsewhere or of the
    replica that takes its place; a stream that had begun ends with the error `replica_lost`.

    Args:
        name: of the model.
        load: opens the model, on a node.
        settings: of the replicas.
        metrics: counted in.

    Raises:
        InputError: Ray is not installed, or its cluster cannot be reached.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], LoadedModel],
        settings: ReplicaSettings = ReplicaSettings(),
        metrics: Metrics | None = None,
    ) -> None:
        self.name = name
        self.metrics = metrics or Metrics()
        self._load = load
        self._settings = settings
        self._app = f"openferret-{os.getpid()}-{id(self):x}"
        self._tasks: dict[Job, asyncio.Task[None]] = {}
        self._waiting: Counter[str] = Counter()
        self._lent: ByteCache[Any] = ByteCache(_LENT_BYTES)
        self._handle: Any = None
        self._running = 0
        self._closed = Event()
        self._thread = Thread(target=self._deploy, name="openferret-replicas", daemon=True)
        self.metrics.gauge("openferret_waiting", "Requests at the replicas.", lambda: len(self._tasks))
        self.metrics.gauge("openferret_replicas", "Replicas that answer.", lambda: self._running)
        self._ray, self._started_here = connect("serve")

    @property
    def ready(self) -> bool:
        """Whether a replica answers."""
        return self._running > 0

    @property
    def replicas(self) -> int:
        """That answer now."""
        return self._running

    def start(self) -> None:
        """Begins to deploy the replicas."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Sends a request to a replica; ServeError 429 if too many are on their way."""
        most = self._settings.engine
        if (
            self._closed.is_set()
            or len(self._tasks) >= most.waiting * self._settings.most
            or self._waiting[job.client] >= most.waiting_of_client * self._settings.most
        ):
            raise busy("queue_full", "too many requests are waiting; come again shortly")
        self._waiting[job.client] += 1
        task = asyncio.get_running_loop().create_task(self._carry(job))
        self._tasks[job] = task
        task.add_done_callback(lambda _: self._done(job))

    def cancel(self, job: Job) -> None:
        """Nobody waits any more: the replica is told."""
        if not job.result.done():
            self.metrics.cancelled.inc()
        job.leave()
        job.result.cancel()
        task = self._tasks.get(job)
        if task is not None and not task.done():
            task.cancel()

    def forget(self, digest: str) -> None:
        """Drops the picture here; replicas drop theirs as others come."""
        self._lent.drop(digest)

    def close(self, seconds: float) -> None:
        """Refuses those who wait, and takes the replicas down."""
        self._closed.set()
        for job in list(self._tasks):
            job.fail(shutting_down())
        if self._thread.is_alive():
            self._thread.join(seconds)
        if self._handle is not None:
            self._handle.shutdown()  # else its router goes on asking a cluster that is gone
        if self._started_here:
            self._ray.shutdown()  # with everything that runs on it
        elif self._handle is not None:
            from ray import serve

            serve.delete(self._app, _blocking=False)

    def _deploy(self) -> None:
        from ray import serve

        settings = self._settings
        how = serve.deployment(
            name="replica",
            max_ongoing_requests=settings.engine.waiting,
            autoscaling_config={
                "min_replicas": settings.least,
                "max_replicas": settings.most,
                "target_ongoing_requests": settings.ongoing,
                "upscale_delay_s": 3.0,
                "downscale_delay_s": 120.0,
                "metrics_interval_s": 1.0,
                "look_back_period_s": 5.0,
            },
            health_check_period_s=2.0,
            health_check_timeout_s=30.0,
            graceful_shutdown_timeout_s=2.0,
            graceful_shutdown_wait_loop_s=0.2,
            ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
        )
        try:
            serve.start(proxy_location="Disabled")  # the ingress is ours
            deployed = how(_routed()).bind(self._load, settings.engine)
            self._handle = serve.run(deployed, name=self._app, route_prefix=None)
        except Exception as error:
            if not self._closed.is_set():
                self.metrics.failures.inc()
                _log.error("the replicas cannot be deployed: %s", type(error).__name__)
            return
        while not self._closed.wait(_POLL_SECONDS):
            self._running = self._count(serve)

    def _count(self, serve: Any) -> int:
        try:
            application = serve.status().applications[self._app]
            return int(application.deployments["replica"].replica_states.get("RUNNING", 0))
        except Exception as error:
            _log.warning("the replicas' state is not known: %s", type(error).__name__)
            return 0

    async def _carry(self, job: Job) -> None:
        lost = _lost_errors(self._ray)
        for last in (False, True):
            try:
                said = await self._ask(job)
            except lost as error:
                _log.warning("a replica was lost: %s", type(error).__name__)
                if last or job.begun:
                    message = "the replica that was answering was lost; ask again"
                    job.fail(ServeError(503, "replica_lost", message, {"Retry-After": "1"}))
                    return
                self.metrics.retries.inc()
            except Exception as error:
                self.metrics.failures.inc()
                _log.error("a replica failed: %s", type(error).__name__)
                job.fail(internal_error())
                return
            else:
                self._settle(job, said)
                return

    def _settle(self, job: Job, said: Outcome | Refusal) -> None:
        if isinstance(said, Refusal):
            job.fail(said.error())
            return
        for stage in ("queue", "encode", "prefill", "decode"):
            if stage in said.seconds:
                self.metrics.stages.labels(stage).observe(said.seconds[stage])
        self.metrics.tokens.inc(said.new_tokens)
        job.finish(said)

    async def _ask(self, job: Job) -> Outcome | Refusal:
        while self._handle is None:
            await asyncio.sleep(0.05)
        asked = Question(job.picture.digest, self._lend(job.picture), job.picture.held, job.client, job.work)
        # Questions on a picture go where it was read, if that replica has room.
        handle = self._handle.options(multiplexed_model_id=job.picture.digest)
        if job.on_text is None:
            response = handle.answer.remote(asked)
            try:
                said: Outcome | Refusal = await response
            except asyncio.CancelledError:
                response.cancel()
                raise
            return said
        stream = handle.options(stream=True).write.remote(asked)
        try:
            async for piece in stream:
                if not isinstance(piece, str):
                    ended: Outcome | Refusal = piece
                    return ended
                job.show_clean(piece)
        except asyncio.CancelledError:
            stream.cancel()
            raise
        raise RuntimeError("a replica's stream had no end")

    def _lend(self, picture: Subject) -> Any:
        """A reference to a picture's pixels, which are put into the cluster's store once."""
        found = self._lent.get(picture.digest)
        if found is None:
            found = self._ray.put(np.asarray(picture.image))
            self._lent.put(picture.digest, found, picture.held)
        return found

    def _done(self, job: Job) -> None:
        del self._tasks[job]
        self._waiting[job.client] -= 1
        if not self._waiting[job.client]:
            del self._waiting[job.client]


@functools.cache
def _routed() -> type[Replica]:
    """A replica that tells Ray Serve's router which pictures it has read."""
    from ray import serve

    class RoutedReplica(Replica):
        async def answer(self, asked: Question) -> Outcome | Refusal:
            await self._has_read(asked.digest)
            return await super().answer(asked)

        async def write(self, asked: Question) -> Any:
            await self._has_read(asked.digest)
            async for piece in super().write(asked):
                yield piece

        @serve.multiplexed(max_num_models_per_replica=_PICTURES_OF_REPLICA)  # type: ignore[untyped-decorator]
        async def _has_read(self, digest: str) -> str:
            return digest

    return RoutedReplica


def _lost_errors(ray: Any) -> tuple[type[Exception], ...]:
    errors = ray.exceptions
    return (
        errors.RayActorError,
        errors.WorkerCrashedError,
        errors.NodeDiedError,
        errors.ObjectLostError,
        errors.OwnerDiedError,
        errors.OutOfMemoryError,  # Ray ends replicas where memory runs out
    )
