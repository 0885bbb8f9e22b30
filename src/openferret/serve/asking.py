"""From a request to its outcome: the picture, the regions, a place in the queue, and the wait."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from fastapi import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from openferret.masks import BoolArray
from openferret.regions import Region
from openferret.serve.errors import ServeError
from openferret.serve.fetch import Fetcher
from openferret.serve.jobs import Backend, Job
from openferret.serve.limits import Budget, Limits
from openferret.serve.pictures import Picture, PictureStore, read_data_url
from openferret.serve.pointing import mask_bytes, read_regions
from openferret.serve.reading import ReadAhead
from openferret.serve.schemas import ImageRef, RegionSpec
from openferret.serve.streaming import event
from openferret.serve.work import Outcome, Work

_SLOW_READER_SECONDS = 10.0


@dataclass(frozen=True)
class Service:
    """What every route needs.

    Attributes:
        engine: that answers.
        store: of pictures.
        reader: of pictures that nobody has asked about yet.
        fetcher: of pictures by address.
        limits: of requests.
        budget: of memory.
        deadline: seconds for an answer.
        masks: lets one request's masks be read at a time.
    """

    engine: Backend
    store: PictureStore
    reader: ReadAhead
    fetcher: Fetcher
    limits: Limits
    budget: Budget
    deadline: float
    masks: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(1))


@dataclass(frozen=True)
class Subject:
    """What a request is about.

    Attributes:
        picture: whose memory is reserved.
        regions: in pixels of the picture, in the order given.
    """

    picture: Picture
    regions: list[Region]

    @property
    def alpha(self) -> BoolArray | None:
        """What is opaque of a picture that is transparent elsewhere."""
        return self.picture.alpha


def service_of(request: Request) -> Service:
    """The service that an app was made with."""
    found: Service = request.app.state.service
    return found


def new_id(kind: str) -> str:
    """A name that nobody can guess.

    >>> new_id("ask").startswith("ask-")
    True
    """
    return f"{kind}-{secrets.token_hex(12)}"


@asynccontextmanager
async def subject(service: Service, image: ImageRef, specs: Sequence[RegionSpec]) -> AsyncIterator[Subject]:
    """The picture and the regions of a request; their memory is reserved until the context ends.

    Raises:
        ServeError: for what cannot be used.
    """
    async with AsyncExitStack() as stack:
        if image.id is not None:
            picture = await stack.enter_async_context(service.store.named(image.id))
        else:
            if image.data is not None:
                raw = await anyio.to_thread.run_sync(read_data_url, image.data)
            else:
                raw = await anyio.to_thread.run_sync(service.fetcher.get, image.url or "")
            picture = await stack.enter_async_context(service.store.decoded(raw))
        yield Subject(picture, await _read(service, specs, picture.image.size, stack))


async def _read(
    service: Service, specs: Sequence[RegionSpec], size: tuple[int, int], stack: AsyncExitStack
) -> list[Region]:
    """Regions, their memory reserved; masks are read one request's at a time."""
    taken = mask_bytes(specs, size)
    stack.enter_context(service.budget.hold(taken))
    read = partial(read_regions, specs, size, service.limits)
    return await anyio.to_thread.run_sync(read, limiter=service.masks if taken else None)


def new_job(request: Request, picture: Picture, work: Work) -> Job:
    """A job of whoever sent a request."""
    return Job(picture, client_of(request), work)


def client_of(request: Request) -> str:
    """Whose turn a request takes: its address."""
    return request.client.host if request.client else "local"


async def outcome(service: Service, request: Request, job: Job) -> Outcome:
    """Waits for an answer.

    Raises:
        ServeError: 429 if the queue is full, 504 if the time is up, 499 if the client has gone, and what the
            engine says.
    """
    service.engine.submit(job)
    answer = asyncio.wrap_future(job.result)
    gone = asyncio.ensure_future(_until_gone(request.receive))
    both: set[asyncio.Future[Any]] = {answer, gone}
    try:
        await asyncio.wait(both, timeout=service.deadline, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if gone.done():
            raise ServeError(499, "client_gone", "the client has gone")
        raise _too_late()
    finally:
        gone.cancel()
        service.engine.cancel(job)


class EventStream(Response):
    """An answer as Server-Sent Events; what fails before the first of them is a plain error reply.

    Args:
        service: that answers.
        job: not yet submitted.
        stack: closed when the stream ends.
        token: piece of text -> event.
        end: outcome -> last events.
        failure: error -> event.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        service: Service,
        job: Job,
        stack: AsyncExitStack,
        token: Callable[[str], bytes],
        end: Callable[[Outcome], bytes],
        failure: Callable[[ServeError], bytes],
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self.service = service
        self.job = job
        self.stack = stack
        self.token = token
        self.end = end
        self.failure = failure
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends until the answer ends, the time is up or the client has gone."""
        async with self.stack:
            self._listen()
            sending = asyncio.ensure_future(self._send_all(send))
            gone = asyncio.ensure_future(_until_gone(receive))
            longest = self.service.deadline + _SLOW_READER_SECONDS
            try:
                await asyncio.wait({sending, gone}, timeout=longest, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.service.engine.cancel(self.job)
                gone.cancel()
                if not sending.done():
                    sending.cancel()
            if sending.done():
                sending.result()

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()

        def put(piece: str | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

        self.job.on_text = put
        self.job.result.add_done_callback(lambda _: put(None))
        self.service.engine.submit(self.job)

    async def _send_all(self, send: Send) -> None:
        started = False

        async def show(body: bytes) -> None:
            nonlocal started
            if not started:
                started = True
                head: Message = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                await send(head)
            await send({"type": "http.response.body", "body": body, "more_body": True})

        begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self.service.deadline):
                while (piece := await self._pieces.get()) is not None:
                    if not started:
                        waited = asyncio.get_running_loop().time() - begun
                        self.service.engine.metrics.first_text.observe(waited)
                    await show(self.token(piece))
            await show(self.end(self.job.result.result()))
        except TimeoutError:
            if not started:
                raise _too_late() from None
            await show(self.failure(_too_late()))
        except ServeError as error:
            if not started:
                raise
            await show(self.failure(error))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def error_event(error: ServeError) -> bytes:
    """An error in a stream of the plain verbs."""
    return event(error.body(), "error")


def timings(seconds: dict[str, float]) -> dict[str, float]:
    """Seconds of a reply, to the microsecond.

    >>> timings({"decode": 0.12345678})
    {'queue': 0.0, 'encode': 0.0, 'prefill': 0.0, 'decode': 0.123457}
    """
    return {stage: round(seconds.get(stage, 0.0), 6) for stage in ("queue", "encode", "prefill", "decode")}


async def _until_gone(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_late() -> ServeError:
    return ServeError(504, "deadline_exceeded", "the answer took longer than the server allows")
