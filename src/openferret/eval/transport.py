"""JSON over HTTP to an OpenAI-compatible server: with a time limit, a size limit, and few retries."""

from __future__ import annotations

import json
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from openferret.errors import InputError, OpenFerretError
from openferret.eval.files import parse_json

_LARGEST_REPLY = 16 * 2**20
_PIECE = 1 << 16
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_LONGEST_WAIT = 600.0


class TransportError(OpenFerretError):
    """A server that does not answer, or not as an OpenAI-compatible server does.

    Args:
        reason: in a few words.
        may_pass: whether the same request may succeed later.
        wait: seconds that the server asks to wait, or None.
        lost: whether the request went out and its reply did not come, or cannot be read: it may have to be paid for.
    """

    def __init__(
        self, reason: str, may_pass: bool = False, wait: float | None = None, lost: bool = False
    ) -> None:
        super().__init__(reason)
        self.may_pass = may_pass
        self.wait = wait
        self.lost = lost


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class ChatServer:
    """A server with `POST {url}/chat/completions`.

    Args:
        url: base, as `http://127.0.0.1:8000/v1`.
        model: name that the server knows the model by.
        key: sent as a bearer token; None sends none.
        timeout: seconds for one try.
        tries: how often a request is made that fails for a reason that may pass.
        pause: seconds before the second try, doubled before each further one.

    Raises:
        InputError: a URL that is not http or https.
    """

    url: str
    model: str
    key: str | None = None
    timeout: float = 120.0
    tries: int = 3
    pause: float = 1.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.netloc or parts.username:
            raise InputError(f"{self.url[:80]!r} is not an http or https address such as http://host:8000/v1")

    def chat(self, messages: list[dict[str, Any]], **settings: Any) -> str:
        """The words of the first choice.

        Raises:
            TransportError: no usable reply after all tries; the reason is given.
        """
        body = json.dumps({"model": self.model, "messages": messages, **settings}).encode()
        for left in reversed(range(self.tries)):
            try:
                return _first_choice(decoded_reply(post_chat(self, body)))
            except TransportError as error:
                if not left or not error.may_pass:
                    raise
                time.sleep(max(self.pause * 2 ** (self.tries - 1 - left), error.wait or 0.0))
        raise InputError("tries must be at least 1")


def post_chat(server: ChatServer, body: bytes) -> bytes:
    """Makes one request, once; the reply's bytes, whatever they are.

    Args:
        server: with address, key and time limit; its `tries` and `pause` are not used.
        body: JSON of the request.

    Raises:
        TransportError: no reply, or one of more than 16 MB.
    """
    headers = {"Content-Type": "application/json"}
    if server.key:
        headers["Authorization"] = f"Bearer {server.key}"
    request = urllib.request.Request(f"{server.url.rstrip('/')}/chat/completions", body, headers)
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=server.timeout) as reply:
            content = _read_in_time(reply, server.timeout)
    except urllib.error.HTTPError as error:
        with error:  # it is the reply, and holds the connection
            wait = _seconds(error.headers.get("Retry-After"), error.headers.get("Date"))
        raise TransportError(f"HTTP {error.code} {error.reason}", error.code in _AGAIN, wait) from None
    except (OSError, ValueError, HTTPException) as error:  # refused, timed out, torn, no such host, not HTTP
        lost = not isinstance(error, urllib.error.URLError)  # which is told before a request is out
        raise TransportError(f"{type(error).__name__}: {error}", may_pass=True, lost=lost) from None
    if len(content) > _LARGEST_REPLY:
        raise TransportError(f"a reply of more than {_LARGEST_REPLY >> 20} MB", lost=True)
    return content


def _read_in_time(reply: HTTPResponse, seconds: float) -> bytes:
    """All of a reply, or a little more than the most that is taken.

    The socket's own limit is for each piece: a server that sends a byte now and then would hold a thread for ever.
    """
    end = time.monotonic() + seconds
    pieces: list[bytes] = []
    size = 0
    while size <= _LARGEST_REPLY and (piece := reply.read1(_PIECE)):
        if time.monotonic() > end:
            raise TimeoutError("the reply took too long")
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def decoded_reply(content: bytes) -> Mapping[str, Any]:
    """A reply's JSON object.

    Raises:
        TransportError: it is none; the same request may succeed later.
    """
    try:
        reply = parse_json(content.decode("utf-8"), "the reply")
    except (InputError, UnicodeDecodeError) as error:
        raise TransportError(str(error), may_pass=True, lost=True) from None
    if not isinstance(reply, Mapping):
        raise TransportError("a reply that is not a JSON object", may_pass=True, lost=True)
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


def key_from(variable: str | None) -> str | None:
    """The key that an environment variable holds; None if none is named.

    Raises:
        InputError: there is no such variable, or it is empty.
    """
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise InputError(f"the environment has no variable {variable!r} to take the key from")
    return key


def _first_choice(reply: Mapping[str, Any]) -> str:
    try:
        words = reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        words = None
    if isinstance(words, list):  # content parts
        words = "".join(str(part.get("text", "")) for part in words if isinstance(part, Mapping))
    if not isinstance(words, str) or not words.strip():
        raise TransportError("a reply without words")
    return words
