"""Asking a server many questions: what was said is kept, what fails is asked again, and nothing is overspent."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from openferret.data.endpoints.completions import (
    Completion,
    CompletionError,
    Messages,
    request_completion,
)
from openferret.data.endpoints.spending import Ledger, Pace, Prices
from openferret.data.files.kept import Kept
from openferret.errors import InputError
from openferret.eval.questions import digest
from openferret.eval.transport import ChatServer

_LONGEST_PAUSE = 60.0
_TOKENS_OF_A_MESSAGE = 16  # at most, for whose it is and where it ends


class StoppedError(CompletionError):
    """The run is being ended; nothing was asked."""

    def __init__(self) -> None:
        super().__init__("the run was stopped", may_pass=True)


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
        """Of a request that is answered at full length, whatever the model's tokenizer makes of it.

        No tokenizer makes more tokens of a text than it has bytes, and some make one of each digit.
        """
        asked = sum(len(message["content"].encode()) + _TOKENS_OF_A_MESSAGE for message in messages)
        return self.prices.cost(asked, most_tokens)

    def _ask(self, messages: Messages, settings: Mapping[str, Any]) -> Completion:
        aside = self.largest_cost(messages, int(settings.get("max_tokens", 1024)))
        for number in range(self.tries):
            self.pace.wait(self.stop)
            if self.stop.is_set():
                raise StoppedError
            self.ledger.set_aside(aside)
            tokens, cost = (0, 0), 0.0
            try:
                said = request_completion(self.server, messages, settings)
                tokens = (said.prompt_tokens, said.completion_tokens)
                cost = self.prices.cost(*tokens)
                return said
            except CompletionError as error:
                tokens = error.tokens or tokens
                # Nobody knows what a reply that was lost has cost.
                cost = self.prices.cost(*tokens) if error.tokens else aside * error.lost
                if not error.may_pass or number == self.tries - 1:
                    raise
                # Chance keeps threads that failed together from coming back together.
                own = min(self.pause * 2**number, _LONGEST_PAUSE) * random.uniform(0.75, 1.25)
                if error.wait is not None:
                    self.pace.hold(error.wait)
                self.stop.wait(max(own, error.wait or 0.0))
            finally:
                self.ledger.book(aside, cost, *tokens)
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
