"""What requests cost, how much may be spent, and how many may be made in a minute; shared by threads."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from openferret.checks import finite_number
from openferret.errors import InputError, OpenFerretError


class BudgetSpent(OpenFerretError):  # noqa: N818 (an end, not a mistake)
    """The next request might cost more than is left."""


@dataclass(frozen=True)
class Prices:
    """Of a model, for a million tokens, in any currency; 0 for a server of one's own.

    Args:
        prompt: of what it is told.
        completion: of what it says.

    Raises:
        InputError: a price below 0.

    >>> Prices(0.5, 1.5).cost(1_000_000, 2_000_000)
    3.5
    """

    prompt: float = 0.0
    completion: float = 0.0

    def __post_init__(self) -> None:
        if finite_number(self.prompt, "a price") < 0 or finite_number(self.completion, "a price") < 0:
            raise InputError("a price must not be below 0")

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Of a request."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@dataclass
class Ledger:
    """Counts what is spent and refuses what might go beyond.

    Before a request its largest possible cost is set aside; afterwards its true cost is booked. So nothing is
    overdrawn, however many requests are in flight.

    Args:
        most_cost: in the currency of the prices; None for no limit.
        most_requests: None for no limit.

    Raises:
        InputError: a limit that is no number, or below 0.
    """

    most_cost: float | None = None
    most_requests: int | None = None
    cost: float = 0.0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    _aside: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        # Nothing is more than NaN: it would be no limit at all.
        if self.most_cost is not None and finite_number(self.most_cost, "the budget") < 0:
            raise InputError("the budget must not be below 0")

    def set_aside(self, cost: float) -> None:
        """Before a request of at most this cost; BudgetSpent if it is not there."""
        with self._lock:
            if self.most_requests is not None and self.requests >= self.most_requests:
                raise BudgetSpent(f"the budget of {self.most_requests} requests is spent")
            if self.most_cost is not None and self.cost + self._aside + cost > self.most_cost + 1e-12:
                raise BudgetSpent(
                    f"the budget of {self.most_cost:g} is spent: {self.cost:.4g} so far, and the next request may "
                    f"cost {cost:.4g}"
                )
            self._aside += cost
            self.requests += 1

    def book(self, aside: float, cost: float, prompt_tokens: int, completion_tokens: int) -> None:
        """After a request: what it cost in the place of what was set aside."""
        with self._lock:
            self._aside -= aside
            self.cost += cost
            self.prompt_tokens += prompt_tokens
            self.completion_tokens += completion_tokens


@dataclass
class Pace:
    """Spaces requests evenly, and holds all of them when a server asks to wait.

    Args:
        per_minute: most requests a minute; None for no limit.

    Raises:
        InputError: a number that is not above 0.
    """

    per_minute: float | None = None
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        if self.per_minute is not None and finite_number(self.per_minute, "requests a minute") <= 0:
            raise InputError("requests a minute must be above 0")

    def wait(self, stop: threading.Event) -> None:
        """Until it is this thread's turn, or until `stop` is set."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + (60.0 / self.per_minute if self.per_minute else 0.0)
        if turn > now:
            stop.wait(turn - now)

    def hold(self, seconds: float) -> None:
        """No request of any thread for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
