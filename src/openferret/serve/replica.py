"""What runs on a node of a Ray cluster: an engine of its own, asked by the ingress."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from openferret.loading import LoadedModel
from openferret.serve.engine import Engine, EngineSettings
from openferret.serve.errors import ServeError
from openferret.serve.jobs import Job
from openferret.serve.work import Outcome, Work

_WARM_UP_SECONDS = 300.0


@dataclass(frozen=True)
class Question:
    """A request on its way to a replica.

    Attributes:
        digest: of the picture's file.
        pixels: a reference to uint8 [height, width, 3]; fetched only where the picture was not read before.
        held: bytes of the picture.
        client: who asks.
        work: what is asked.
    """

    digest: str
    pixels: Any
    held: int
    client: str
    work: Work


@dataclass(frozen=True)
class Refusal:
    """A `ServeError` on its way back; exceptions of one's own do not travel well."""

    status: int
    code: str
    message: str

    @classmethod
    def of(cls, error: ServeError) -> Refusal:
        """What to send of an error."""
        return cls(error.status_code, error.code, str(error.detail))

    def error(self) -> ServeError:
        """The error again."""
        headers = {"Retry-After": "1"} if self.status == 429 else None
        return ServeError(self.status, self.code, self.message, headers)


class LentPicture:
    """A picture of the ingress, fetched when it is first looked at."""

    def __init__(self, asked: Question) -> None:
        self.digest = asked.digest
        self.held = asked.held
        self._pixels = asked.pixels

    @property
    def image(self) -> Image.Image:
        """Upright RGB."""
        import ray

        return Image.fromarray(ray.get(self._pixels))


class Replica:
    """One model and its engine.

    Args:
        load: opens the model.
        settings: of the engine.

    Raises:
        RuntimeError: the model cannot answer.
    """

    def __init__(self, load: Callable[[], LoadedModel], settings: EngineSettings) -> None:
        self._engine = Engine(load(), settings)
        self._engine.start()
        ends = time.monotonic() + _WARM_UP_SECONDS
        while not self._engine.ready:
            if time.monotonic() > ends or not self._engine.alive:
                raise RuntimeError("the model does not answer")
            time.sleep(0.02)

    def check_health(self) -> None:
        """Called by Ray Serve: a replica whose model has died is replaced."""
        if not self._engine.ready:
            raise RuntimeError("the model has died")

    async def name(self) -> str:
        """Of the model."""
        return self._engine.name

    async def process(self) -> int:
        """The id of this process on its node."""
        return os.getpid()

    async def forget(self, digest: str) -> None:
        """Drops what was read of a picture."""
        self._engine.forget(digest)

    async def answer(self, asked: Question) -> Outcome | Refusal:
        """The whole answer; the request leaves the engine when Ray cancels the call."""
        job = Job(LentPicture(asked), asked.client, asked.work)
        try:
            self._engine.submit(job)
            return await asyncio.wrap_future(job.result)
        except ServeError as error:
            return Refusal.of(error)
        finally:
            self._engine.cancel(job)

    async def write(self, asked: Question) -> AsyncIterator[str | Outcome | Refusal]:
        """Pieces of clean text as they are written, then how it ended."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        def put(piece: str | None) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        job = Job(LentPicture(asked), asked.client, asked.work, put)
        job.result.add_done_callback(lambda _: put(None))
        try:
            self._engine.submit(job)
            while (piece := await pieces.get()) is not None:
                yield piece
            yield job.result.result()
        except ServeError as error:
            yield Refusal.of(error)
        finally:
            self._engine.cancel(job)
