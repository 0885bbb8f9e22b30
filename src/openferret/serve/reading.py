"""Pictures that were just sent are read before anybody asks: one at a time, so that questions come first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress

from openferret.serve import work
from openferret.serve.errors import ServeError
from openferret.serve.jobs import Backend, Job
from openferret.serve.pictures import PictureStore

_MOST_WAITING = 256


class ReadAhead:
    """Has pictures read, the last that was sent first.

    Only names wait here: a picture's memory is held while its turn has come, and what is forgotten meanwhile is
    not read. A client who sends a whole album therefore has one job in the engine's queue, beside its questions.
    Used on the event loop only.

    Args:
        engine: that reads.
        store: of the pictures.
        most: names that wait; the earliest are dropped, and their pictures are read when they are first asked.
    """

    def __init__(self, engine: Backend, store: PictureStore, most: int = _MOST_WAITING) -> None:
        self._engine = engine
        self._store = store
        self._most = most
        self._waiting: OrderedDict[str, str] = OrderedDict()  # name -> client
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, name: str, client: str) -> None:
        """Has a picture read, in the turn of the client who sent it.

        Args:
            name: of the picture, as the store gave it.
            client: who sent it.
        """
        self._waiting[name] = client
        while len(self._waiting) > self._most:
            self._waiting.popitem(last=False)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Reads no more."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while self._waiting:
            name, client = self._waiting.popitem()
            # Forgotten, no memory or no room in the queue: it is read when it is first asked.
            with suppress(ServeError):
                async with self._store.named(name) as picture:
                    job = Job(picture, client, work.reading())
                    self._engine.submit(job)
                    await asyncio.wrap_future(job.result)
