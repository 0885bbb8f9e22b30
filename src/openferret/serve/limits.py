"""What is refused before any of it is decoded: bytes, nesting, values, and memory of all requests together."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openferret.serve.errors import ServeError, busy

_MEGA = 1_000_000


@dataclass(frozen=True)
class Limits:
    """The most that a request may bring; sizes in bytes, text in characters.

    Attributes:
        body: of a request.
        pixels: of a picture, by its header.
        regions: of a request.
        vertices: of a scribble or polygon.
        request_vertices: of all scribbles and polygons of a request.
        mask_pixels: of a request's masks that are PNG, if there are several.
        mask_runs: of a request's masks, whatever they are sent as.
        rle_runs: of a mask given as a list.
        rle_text: of a mask given as text.
        depth: of JSON.
        values: of JSON, in all.
        keys: of JSON, in all.
        text: of a question or an earlier answer.
        phrase: of something to look for.
        phrases: to look for in one request.
        messages: of a conversation.
        parts: of a message.
        drafts: of a description.
        new_tokens: of an answer.
        prompt_tokens: of a conversation; its earliest turns are forgotten beyond.
        held: bytes of bodies, decoded pictures and masks of all requests that are being answered.
        body_seconds: in which a body must arrive.
    """

    body: int = 16 * _MEGA
    pixels: int = 40 * _MEGA
    regions: int = 32
    vertices: int = 10_000
    request_vertices: int = 20_000
    mask_pixels: int = 160 * _MEGA
    mask_runs: int = 1 * _MEGA
    rle_runs: int = 200_000
    rle_text: int = 4 * _MEGA
    depth: int = 16
    values: int = 400_000
    keys: int = 5_000
    text: int = 16_384
    phrase: int = 512
    phrases: int = 64
    messages: int = 64
    parts: int = 128
    drafts: int = 16
    new_tokens: int = 512
    prompt_tokens: int = 2048
    held: int = 1024 * _MEGA
    body_seconds: float = 30.0


LIMITS = Limits()

# A string is one match, whatever is in it, closed or not: no character is looked at twice.
_MATCHES_OF_VALUE = 6  # of a key, its colon, a value, a comma; and a pair of brackets
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{\]},]|[^"\[{\]},]++', re.DOTALL)


def read_json(raw: bytes, limits: Limits = LIMITS) -> Any:
    """Parses JSON that is neither deep nor made of too many values, and has no NaN or Infinity.

    Raises:
        ServeError: 400 for text that is not JSON, 413 for too much of it.

    >>> read_json(b'{"a": [1, 2]}')
    {'a': [1, 2]}
    """
    depth = keys = 0
    values = raw.count(b"\\")  # escapes cost as much as values
    if values > limits.values:
        raise _too_many(limits)
    for matches, match in enumerate(_STRUCTURE.finditer(raw)):
        if matches > _MATCHES_OF_VALUE * limits.values:
            raise _too_many(limits)
        first = raw[match.start()]
        if first in b"[{":
            depth += 1
            if depth > limits.depth:
                raise ServeError(400, "json_too_deep", f"the JSON is nested more than {limits.depth} deep")
        elif first in b"]}":
            depth -= 1
        elif first == 0x2C:
            values += 1
            if values > limits.values:
                raise _too_many(limits)
        elif first != 0x22 and b":" in match[0]:
            keys += 1
            if keys > limits.keys:
                raise ServeError(413, "json_too_large", f"the JSON has more than {limits.keys} keys")
    try:
        return from_json(raw, allow_inf_nan=False)
    except ValueError:
        raise ServeError(
            400, "invalid_json", "the body is not JSON (NaN and Infinity are not either)"
        ) from None


def _too_many(limits: Limits) -> ServeError:
    return ServeError(413, "json_too_large", f"the JSON has more than {limits.values} values and escapes")


class Budget:
    """Bytes that requests hold together; used on the event loop only, so it needs no lock.

    Args:
        size: the most, in bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.held = 0

    def take(self, count: int) -> None:
        """Reserves bytes; ServeError 429 if there is no room for them now."""
        if self.held + count > self.size:
            raise busy("busy", "the server holds as much as it may; come again shortly")
        self.held += count

    def give(self, count: int) -> None:
        """Returns bytes."""
        self.held -= count

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Reserves bytes for a while."""
        self.take(count)
        try:
            yield
        finally:
            self.give(count)


class BodyLimit:
    """Reads a request's body, counting, before anything of it is looked at; then hands it on.

    Args:
        app: what comes after.
        limits: body, body_seconds.
        budget: that bodies are taken from.
    """

    def __init__(self, app: ASGIApp, limits: Limits, budget: Budget) -> None:
        self.app = app
        self.limits = limits
        self.budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands a whole body on; ServeError 400, 408, 413, 415 or 429 for one that cannot be taken."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self._check_headers(scope)
        with ExitStack() as held:
            body = await self._read(scope, receive, held)
            sent = False

            async def replay() -> Message:
                nonlocal sent
                if sent:
                    return await receive()
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}

            if body is not None:
                await self.app(scope, replay, send)

    async def _read(self, scope: Scope, receive: Receive, held: ExitStack) -> bytes | None:
        """The whole body, its memory reserved until `held` ends; None if the client has gone."""
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size > self.limits.body:
                        raise self._too_large()
                    held.enter_context(self.budget.hold(len(chunk)))
                    chunks.append(chunk)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise ServeError(408, "body_timeout", "the body did not arrive in time") from None
        if dict(scope["headers"]).get(b"content-length", b"%d" % size) != b"%d" % size:
            raise ServeError(400, "wrong_length", "the body is not as long as its Content-Length says")
        return b"".join(chunks)

    def _check_headers(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if not re.fullmatch(rb"0|[1-9][0-9]{0,14}", length):
            raise ServeError(400, "wrong_length", "Content-Length is not a number of bytes")
        if int(length) > self.limits.body:
            raise self._too_large()
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise ServeError(415, "unsupported_encoding", "a compressed body is not accepted")

    def _too_large(self) -> ServeError:
        return ServeError(
            413, "body_too_large", f"the body is larger than {self.limits.body // _MEGA} megabytes"
        )
