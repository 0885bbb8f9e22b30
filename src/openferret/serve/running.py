"""Runs a server until it is told to stop; then it answers what it has begun, and goes."""

from __future__ import annotations

import logging
from types import FrameType

import uvicorn

from openferret.serve.app import ServerSettings, create_app
from openferret.serve.connection import PatientProtocol, room_for_connections
from openferret.serve.jobs import Backend

_MOST_CONNECTIONS = 1024
_MOST_WAITING = 2048


class _Server(uvicorn.Server):
    """Stops at once when it is told so twice, by whatever signal."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)


def run_server(engine: Backend, settings: ServerSettings, host: str, port: int, drain_seconds: int) -> None:
    """Serves a model.

    SIGTERM or Ctrl-C: no new connections, what has begun is answered within `drain_seconds`; again: at once.

    Args:
        engine: not yet started.
        settings: towards clients.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        drain_seconds: for what has begun.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    room = room_for_connections(_MOST_CONNECTIONS, _MOST_WAITING)
    config = uvicorn.Config(
        create_app(engine, settings),
        host=host,
        port=port,
        access_log=False,  # ours has no addresses and no paths of clients
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=drain_seconds,
        limit_concurrency=room.connections,
        backlog=room.waiting,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
    )
    _Server(config).run()
