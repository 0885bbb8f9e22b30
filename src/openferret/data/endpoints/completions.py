"""One request to an OpenAI-compatible server: words, tokens used, whether they were cut off, when to come back.

`openferret.eval.transport` asks few questions in order and waits by itself; here thousands are asked at once, so
that waiting is the caller's, and a reply's cost matters.
"""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, TypeAlias

from openferret.errors import InputError
from openferret.eval.files import parse_json
from openferret.eval.transport import ChatServer, TransportError

Messages: TypeAlias = Sequence[Mapping[str, str]]

_LARGEST_REPLY = 4 * 2**20
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_LONGEST_WAIT = 600.0


class CompletionError(TransportError):
    """A request without a usable reply.

    Args:
        reason: in a few words.
        may_pass: whether the same request may succeed later.
        wait: seconds that the server asks to wait, or None.
    """

    def __init__(self, reason: str, may_pass: bool, wait: float | None = None) -> None:
        super().__init__(reason)
        self.may_pass = may_pass
        self.wait = wait


@dataclass(frozen=True)
class Completion:
    """What a server said.

    Args:
        text: its words.
        prompt_tokens: as the server counts them; estimated where it does not.
        completion_tokens: likewise.
        finished: whether it came to an end by itself, not by the limit of tokens.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    finished: bool


def estimate_tokens(text: str) -> int:
    """Tokens of an English text: four characters each, rounded up.

    >>> estimate_tokens("a man rides a bike")
    5
    """
    return math.ceil(len(text) / 4)


def request_completion(server: ChatServer, messages: Messages, settings: Mapping[str, Any]) -> Completion:
    """Makes one request, once.

    Args:
        server: with address, model, key and time limit; its `tries` and `pause` are not used.
        messages: with `role` and `content`.
        settings: of the request, as `max_tokens` and `temperature`.

    Raises:
        CompletionError: no usable reply.
    """
    body = json.dumps({"model": server.model, "messages": list(messages), **settings}).encode()
    reply = _decoded(_posted(server, body))
    try:
        choice = reply["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise CompletionError("a reply that is not a chat completion", may_pass=True) from None
    if not isinstance(text, str) or not text.strip():
        raise CompletionError("a reply without words", may_pass=True)
    counted = reply.get("usage")
    usage = counted if isinstance(counted, Mapping) else {}
    asked = sum(estimate_tokens(message["content"]) for message in messages)
    return Completion(
        text,
        _count(usage.get("prompt_tokens"), asked),
        _count(usage.get("completion_tokens"), estimate_tokens(text)),
        choice.get("finish_reason") != "length",
    )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _posted(server: ChatServer, body: bytes) -> bytes:
    headers = {"Content-Type": "application/json"}
    if server.key:
        headers["Authorization"] = f"Bearer {server.key}"
    request = urllib.request.Request(f"{server.url.rstrip('/')}/chat/completions", body, headers)
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=server.timeout) as reply:
            content: bytes = reply.read(_LARGEST_REPLY + 1)
    except urllib.error.HTTPError as error:
        with error:
            wait = _seconds(error.headers.get("Retry-After"), error.headers.get("Date"))
        raise CompletionError(f"HTTP {error.code} {error.reason}", error.code in _AGAIN, wait) from None
    except (OSError, ValueError, HTTPException) as error:  # refused, timed out, torn, not HTTP
        raise CompletionError(f"{type(error).__name__}: {error}", may_pass=True) from None
    if len(content) > _LARGEST_REPLY:
        raise CompletionError(f"a reply of more than {_LARGEST_REPLY >> 20} MB", may_pass=False)
    return content


def _decoded(content: bytes) -> Mapping[str, Any]:
    try:
        reply = parse_json(content.decode("utf-8"), "the reply")
    except (InputError, UnicodeDecodeError) as error:
        raise CompletionError(str(error), may_pass=True) from None
    if not isinstance(reply, Mapping):
        raise CompletionError("a reply that is not a JSON object", may_pass=True)
    return reply


def _seconds(value: str | None, now: str | None) -> float | None:
    """Retry-After in seconds or as a date; None for nonsense; never more than ten minutes."""
    if not value:
        return None
    try:
        wait = float(value)
    except ValueError:
        try:
            wait = (parsedate_to_datetime(value) - parsedate_to_datetime(now or value)).total_seconds()
        except (TypeError, ValueError):
            return None
    return min(max(wait, 0.0), _LONGEST_WAIT) if math.isfinite(wait) else None


def _count(value: Any, otherwise: int) -> int:
    return value if type(value) is int and value >= 0 else otherwise
