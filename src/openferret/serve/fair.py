"""Who is next: clients take turns, and a client's pictures take turns; the queue is bounded."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from threading import Condition
from typing import Generic, Protocol, TypeVar

from openferret.serve.errors import busy


class Waiting(Protocol):
    """What may stand in the queue."""

    @property
    def client(self) -> str:
        """Who asks."""

    @property
    def lane(self) -> str:
        """What is asked about; the same for what may be answered together."""

    @property
    def rows(self) -> int:
        """Sequences that it takes."""


J = TypeVar("J", bound=Waiting)


class FairQueue(Generic[J]):
    """Jobs of many clients, handed out in turn with what can be answered beside them; safe between threads.

    Args:
        most: jobs that wait.
        most_of_client: jobs of one client that wait.
        most_rows: sequences that are handed out together.
    """

    def __init__(self, most: int, most_of_client: int, most_rows: int) -> None:
        self.most = most
        self.most_of_client = most_of_client
        self.most_rows = most_rows
        self._clients: OrderedDict[str, OrderedDict[str, deque[J]]] = OrderedDict()  # the next first
        self._changed = Condition()
        self._closed = False

    def __len__(self) -> int:
        with self._changed:
            return self._count()

    def put(self, job: J) -> None:
        """Joins the queue; ServeError 429 if it is full."""
        with self._changed:
            own = sum(len(lane) for lane in self._lanes(job.client).values())
            if self._closed or self._count() >= self.most or own >= self.most_of_client:
                raise busy("queue_full", "too many requests are waiting; come again shortly")
            self._clients.setdefault(job.client, OrderedDict()).setdefault(job.lane, deque()).append(job)
            self._changed.notify()

    def discard(self, job: J) -> None:
        """Leaves the queue, if it is still there."""
        with self._changed:
            lane = self._lanes(job.client).get(job.lane)
            if lane is not None and job in lane:
                lane.remove(job)
                self._tidy(job.client, job.lane)

    def take(self, together: Callable[[J, J], bool]) -> list[J]:
        """Waits for the next job and takes it, and every other of its lane that may be answered with it.

        Args:
            together: whether a second job may be answered with the first.

        Returns:
            At least one job; none once the queue is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._clients)
            if self._closed:
                return []
            client, lanes = next(iter(self._clients.items()))
            name = next(iter(lanes))
            first = lanes[name].popleft()
            self._clients.move_to_end(client)
            lanes.move_to_end(name)
            chosen, rows = [first], first.rows
            for owner in [*self._clients]:  # those of its own client come last: it has its turn
                lane = self._clients[owner].get(name, deque())
                for job in [*lane]:
                    if rows + job.rows <= self.most_rows and together(first, job):
                        chosen.append(job)
                        rows += job.rows
                        lane.remove(job)
                self._tidy(owner, name)
            return chosen

    def close(self) -> list[J]:
        """Lets nobody in any more; those who wait."""
        with self._changed:
            left = [job for lanes in self._clients.values() for lane in lanes.values() for job in lane]
            self._closed = True
            self._clients.clear()
            self._changed.notify_all()
            return left

    def _lanes(self, client: str) -> OrderedDict[str, deque[J]]:
        return self._clients.get(client, OrderedDict())

    def _count(self) -> int:
        return sum(len(lane) for lanes in self._clients.values() for lane in lanes.values())

    def _tidy(self, client: str, lane: str) -> None:
        lanes = self._clients.get(client)
        if lanes is not None and not lanes.get(lane, True):
            del lanes[lane]
        if lanes is not None and not lanes:
            del self._clients[client]
