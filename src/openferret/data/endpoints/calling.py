"""Asking a server many questions: what was said is kept, what fails is asked again, and nothing is overspent."""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from openferret.data.endpoints.completions import (
    Completion,
    CompletionError,
    Messages,
    estimate_tokens,
    request_completion,
)
from openferret.data.endpoints.spending import Ledger, Pace, Prices
from openferret.errors import InputError
from openferret.eval.files import parse_json
from openferret.eval.questions import digest
from openferret.eval.transport import ChatServer

_LONGEST_PAUSE = 60.0


class StoppedError(CompletionError):
    """The run is being ended; nothing was asked."""

    def __init__(self) -> None:
        super().__init__("the run was stopped", may_pass=True)


@dataclass
class Kept:
    """JSON lines by key, in a file that is only appended to: a kill loses at most the line being written.

    Args:
        path: of the file; it is made when the first line is kept.
        key: which of a line's values names it.
        in_memory: whether lines can be asked for by name; otherwise only their names are held.

    Raises:
        InputError: a line, other than an unfinished last one, that is no object with this key.
    """

    path: Path
    key: str
    in_memory: bool = True
    _lines: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        if not self.path.is_file():
            return
        whole = 0
        with self.path.open("rb") as stream:
            for line in stream:
                whole += len(line) if line.endswith(b"\n") else 0
        if whole < self.path.stat().st_size:  # killed while writing
            os.truncate(self.path, whole)
        for entry in self:
            self._hold(entry)

    def __contains__(self, name: str) -> bool:
        return name in self._lines

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All lines, read from the file."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                place = f"{self.path} line {number}"
                entry = parse_json(line.decode("utf-8", "replace"), place)
                if not isinstance(entry, dict) or not isinstance(entry.get(self.key), str):
                    raise InputError(f"{place} has no {self.key!r}: this is another file, or it is damaged")
                yield entry

    def get(self, name: str) -> dict[str, Any] | None:
        """The line of that name, if lines are held in memory."""
        return self._lines.get(name)

    def put(self, entry: dict[str, Any]) -> None:
        """Keeps a line, in the file before anything else happens.

        Raises:
            InputError: it cannot be written.
        """
        line = json.dumps(entry, ensure_ascii=False, sort_keys=True) + "\n"
        with self._lock:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as stream:
                    stream.write(line)
            except OSError as error:
                raise InputError(f"{self.path} cannot be written: {error.strerror or error}") from None
            self._hold(entry)

    def _hold(self, entry: dict[str, Any]) -> None:
        self._lines[entry[self.key]] = entry if self.in_memory else {}


@dataclass
class Caller:
    """Asks one model; any number of threads may use it.

    Args:
        server: with address, model, key and time limit.
        ledger: what may be spent, shared by all callers of a run.
        prices: of the model.
        pace: how fast requests may follow each other.
        cache: what was said before; the same request is made once.
        tries: how often a request is made that fails for a reason that may pass.
        pause: seconds before the second try, doubled before each further one, with some chance in it; a longer
            Retry-After is obeyed, by all threads.
        stop: ends all waiting.
    """

    server: ChatServer
    ledger: Ledger
    prices: Prices = field(default_factory=Prices)
    pace: Pace = field(default_factory=Pace)
    cache: Kept | None = None
    tries: int = 6
    pause: float = 1.0
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self, messages: Messages, **settings: Any) -> Completion:
        """What the model says, from the cache if it was asked before.

        Raises:
            CompletionError: no usable reply after all tries.
            BudgetSpent: the request might cost more than is left.
            StoppedError: the run is being ended.
        """
        key = digest([self.server.model, list(messages), settings])
        known = self.cache.get(key) if self.cache is not None else None
        if known is not None:
            return _completion(known)
        said = self._ask(messages, settings)
        if self.cache is not None:
            self.cache.put({"request": key, **asdict(said)})
        return said

    def largest_cost(self, messages: Messages, most_tokens: int) -> float:
        """Of a request that is answered at full length."""
        asked = sum(estimate_tokens(message["content"]) for message in messages)
        return self.prices.cost(asked, most_tokens)

    def _ask(self, messages: Messages, settings: Mapping[str, Any]) -> Completion:
        aside = self.largest_cost(messages, int(settings.get("max_tokens", 1024)))
        for number in range(self.tries):
            self.pace.wait(self.stop)
            if self.stop.is_set():
                raise StoppedError
            self.ledger.set_aside(aside)
            said: Completion | None = None
            try:
                said = request_completion(self.server, messages, settings)
                return said
            except CompletionError as error:
                if not error.may_pass or number == self.tries - 1:
                    raise
                # Chance keeps threads that failed together from coming back together.
                own = min(self.pause * 2**number, _LONGEST_PAUSE) * random.uniform(0.75, 1.25)
                if error.wait is not None:
                    self.pace.hold(error.wait)
                self.stop.wait(max(own, error.wait or 0.0))
            finally:
                tokens = (said.prompt_tokens, said.completion_tokens) if said else (0, 0)
                self.ledger.book(aside, self.prices.cost(*tokens), *tokens)
        raise InputError("tries must be at least 1")


def _completion(entry: Mapping[str, Any]) -> Completion:
    try:
        return Completion(
            str(entry["text"]),
            int(entry["prompt_tokens"]),
            int(entry["completion_tokens"]),
            bool(entry["finished"]),
        )
    except (KeyError, TypeError, ValueError):
        raise InputError("the cache of replies has a line that is not one of its lines; delete it") from None
