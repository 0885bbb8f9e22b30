"""Who may ask: every path but `/health/*` needs a key where one is set, whatever the path."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from openferret.errors import InputError
from openferret.serve.connection import CROWDED
from openferret.serve.errors import ServeError

OPEN_PATHS = frozenset({"/health/live", "/health/ready"})
_SHORTEST_KEY = 16


def read_keys(file: Path) -> tuple[str, ...]:
    """Keys of a file, one a line; empty lines and lines that begin with # are skipped.

    Raises:
        InputError: a file that cannot be read, holds no key, or one shorter than 16 characters.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError):
        raise InputError(f"the key file {str(file)!r} cannot be read as ASCII text") from None
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise InputError(f"the key file {str(file)!r} holds no key: write one on a line")
    if any(len(key) < _SHORTEST_KEY for key in keys):
        raise InputError(f"a key in {str(file)!r} is shorter than {_SHORTEST_KEY} characters")
    return keys


class Gate:
    """Refuses requests without a key, those of a connection too many, and on an open server those to another host.

    A page elsewhere could otherwise make a browser ask a server on this machine by giving it a name of its own.

    Args:
        app: what comes after.
        keys: that are accepted; none opens the server.
        hosts: names by which an open server may be called.
    """

    def __init__(self, app: ASGIApp, keys: Iterable[str], hosts: Sequence[str]) -> None:
        self.app = app
        self._digests = [sha256(key.encode()).digest() for key in keys]
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through or raises ServeError: 401 without a key, 400 for another host, 503 in a crowd."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            if scope.get("state", {}).get(CROWDED):
                raise ServeError(
                    503,
                    "too_many_connections",
                    "the server has all the connections that it can hold: come again in a second",
                    {"Retry-After": "1", "Connection": "close"},
                )
            headers = dict(scope["headers"])
            if self._digests:
                self._check_key(headers.get(b"authorization", b""))
            elif _host(headers.get(b"host", b"")) not in self._hosts:
                raise ServeError(400, "unknown_host", "this server is called by the name of this machine")
        await self.app(scope, receive, send)

    def _check_key(self, header: bytes) -> None:
        given = sha256(_credential(header)).digest()
        # All are compared, and digests rather than keys: the time says nothing about them.
        matches = [compare_digest(given, digest) for digest in self._digests]
        if not any(matches):
            raise ServeError(
                401, "invalid_key", "a key is needed", {"WWW-Authenticate": 'Basic realm="openferret"'}
            )


def _credential(header: bytes) -> bytes:
    scheme, _, value = header.partition(b" ")
    if scheme.lower() == b"bearer":
        return value.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""


def _host(header: bytes) -> str:
    name = header.decode("latin-1").lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]
