"""A request on its way to its answer, and what whoever answers it has to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol

from PIL import Image

from openferret.errors import InputError
from openferret.serve.errors import ServeError, internal_error
from openferret.serve.metrics import Metrics
from openferret.serve.streaming import CleanText
from openferret.serve.work import Outcome, Work


class Subject(Protocol):
    """A picture that is asked about."""

    @property
    def digest(self) -> str:
        """SHA-256 of its file."""

    @property
    def image(self) -> Image.Image:
        """Upright RGB."""

    @property
    def held(self) -> int:
        """Bytes in memory."""


@dataclass(eq=False)
class Job:
    """A request on its way through the engine.

    Attributes:
        picture: that it is about.
        client: who asks.
        work: what is asked.
        on_text: called in the engine's thread with each new piece of clean text; for a single row.
        result: of type Outcome, or a ServeError.
    """

    picture: Subject
    client: str
    work: Work
    on_text: Callable[[str], None] | None = None
    result: Future[Outcome] = field(default_factory=Future)
    submitted: float = field(default_factory=time.perf_counter)
    _gone: Event = field(default_factory=Event)
    _clean: CleanText = field(default_factory=CleanText)

    @property
    def lane(self) -> str:
        """Requests on the same picture share it."""
        return self.picture.digest

    @property
    def rows(self) -> int:
        """Answers to be written."""
        return self.work.rows

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._gone.is_set()

    def leave(self) -> None:
        """Says that nobody waits any more."""
        self._gone.set()

    def show(self, raw: str) -> None:
        """Hands on what is new of an answer, given all of it so far as the model wrote it."""
        self._hand_on(self._clean.grow(raw))

    def show_clean(self, piece: str) -> None:
        """Hands on a piece of clean text."""
        self._clean.shown += piece
        self._hand_on(piece)

    @property
    def begun(self) -> bool:
        """Whether some of its text was handed on."""
        return bool(self._clean.shown)

    def finish(self, outcome: Outcome) -> None:
        """Answers."""
        if self.on_text is not None and len(outcome.answers) == 1:
            self._hand_on(self._clean.finish(outcome.answers[0].text))
        self._settle(lambda: self.result.set_result(outcome))

    def fail(self, error: Exception) -> None:
        """Answers with an error; what is not meant for people is logged by its kind only."""
        if isinstance(error, InputError):
            error = ServeError(422, "invalid_input", str(error))
        elif not isinstance(error, ServeError):
            error = internal_error()
        self._settle(lambda: self.result.set_exception(error))

    def _hand_on(self, piece: str) -> None:
        if piece and self.on_text is not None and not self.gone:
            self.on_text(piece)

    def _settle(self, set_it: Callable[[], None]) -> None:
        try:
            set_it()
        except InvalidStateError:
            self.leave()  # it was cancelled in this very moment


class Backend(Protocol):
    """What answers requests: an engine in this process, or replicas elsewhere. Used on the event loop."""

    metrics: Metrics

    @property
    def name(self) -> str:
        """Of the model."""

    @property
    def ready(self) -> bool:
        """Whether it has answered once and goes on answering."""

    def start(self) -> None:
        """Begins to get ready; returns at once."""

    def submit(self, job: Job) -> None:
        """Takes a request; ServeError 429 if too many wait."""

    def cancel(self, job: Job) -> None:
        """Nobody waits any more: the request ends as soon as it can."""

    def forget(self, digest: str) -> None:
        """Drops what was read of a picture."""

    def close(self, seconds: float) -> None:
        """Refuses those who wait and stops; waits so long for it to end."""
