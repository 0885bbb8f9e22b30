"""Connections of clients that are slow on purpose are closed, so that they keep nobody else out."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
UNREAD_SECONDS = 60


class PatientProtocol(H11Protocol):
    """HTTP/1.1 whose heads must arrive, and whose replies must be read, within a time.

    The body has a time of its own (`openferret.serve.limits.BodyLimit`).
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A connection begins; so does its first head's time."""
        super().connection_made(transport)
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

    def _watch(self) -> None:
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
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
