"""Connections of clients that are slow on purpose, or very many, are closed, so that they keep nobody else out."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
UNREAD_SECONDS = 60
IDLE_SECONDS = 1.0  # after which a connection without a request may have to make room
CROWDED = "crowded"  # in the state of a request that came on a connection too many
_BEYOND = 128  # connections that are told so; still more are closed without a word
_FEW_WAITING = 64  # where files are scarce
_OTHER_FILES = 256  # that a server has open beside its connections, those beyond among them


class PatientProtocol(H11Protocol):
    """HTTP/1.1 whose heads must arrive, and whose replies must be read, within a time.

    The body has a time of its own (`openferret.serve.limits.BodyLimit`). Of more connections than
    `limit_concurrency` the one that has been without a request longest is closed; where all have one, or have only
    just come, requests of the new connection are marked, and the application decides whom it answers all the same.
    """

    _timer: asyncio.TimerHandle | None = None
    _heard = 0.0

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        # uvicorn's own refusal is plain text, and does not spare those who ask after its health.
        self._most, self.limit_concurrency = self.limit_concurrency, None

    def connection_made(self, transport: Any) -> None:
        """A connection begins; so does its first head's time."""
        super().connection_made(transport)
        self._make_room()
        option = getattr(socket, "TCP_USER_TIMEOUT", None)  # of Linux
        opened = transport.get_extra_info("socket")
        if option is not None and opened is not None:
            with suppress(OSError):
                opened.setsockopt(socket.IPPROTO_TCP, option, UNREAD_SECONDS * 1000)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Bytes arrive."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection ends."""
        self._stop()
        super().connection_lost(exc)

    def _make_room(self) -> None:
        beyond = 0 if self._most is None else len(self.connections) - self._most
        if beyond <= 0:
            return
        others = [one for one in self.connections if isinstance(one, PatientProtocol) and one is not self]
        idle = [one for one in others if one._has_no_request()]
        longest = min(idle, key=lambda one: one._heard, default=None)
        if longest is not None and self.loop.time() - longest._heard >= IDLE_SECONDS:
            longest.transport.close()
        elif beyond > _BEYOND:
            self.transport.close()
        else:
            self.app_state = {**self.app_state, CROWDED: True}

    def _watch(self) -> None:
        self._heard = self.loop.time()
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._timer = None
        if self._has_no_request():
            self.transport.close()

    def _has_no_request(self) -> bool:
        return self.conn.their_state is h11.IDLE and not self.transport.is_closing()


@dataclass(frozen=True)
class Room:
    """What the system lets a server hold.

    Args:
        connections: at once.
        waiting: further ones that the system keeps until they are taken, all of them in one go.
    """

    connections: int
    waiting: int


def room_for_connections(most: int, waiting: int) -> Room:
    """At most so many, fewer where too few files may be open; that limit is raised as far as it may be."""
    if sys.platform == "win32":
        return Room(most, waiting)
    import resource

    files, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + waiting + _OTHER_FILES
    if files != resource.RLIM_INFINITY and files < wanted:
        raised = wanted if highest == resource.RLIM_INFINITY else min(wanted, highest)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, highest))
            files = raised
    if files == resource.RLIM_INFINITY or files >= wanted:
        return Room(most, waiting)
    waiting = min(waiting, _FEW_WAITING)
    return Room(max(1, min(most, files - waiting - _OTHER_FILES)), waiting)
