"""JSON over HTTP to an OpenAI-compatible server: with a time limit, a size limit, and few retries."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from openferret.errors import InputError, OpenFerretError
from openferret.eval.files import parse_json

_LARGEST_REPLY = 16 * 2**20
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}


class TransportError(OpenFerretError):
    """A server that does not answer, or not as an OpenAI-compatible server does."""


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
                return _first_choice(self._post(body))
            except TransportError as error:
                if not left or not getattr(error, "may_pass", False):
                    raise
                time.sleep(self.pause * 2 ** (self.tries - 1 - left))
        raise InputError("tries must be at least 1")

    def _post(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        opener = urllib.request.build_opener(_NoRedirects)
        try:
            with opener.open(request, timeout=self.timeout) as reply:
                content = reply.read(_LARGEST_REPLY + 1)
        except urllib.error.HTTPError as error:
            error.close()  # it is the reply, and holds the connection
            raise _failure(f"HTTP {error.code} {error.reason}", error.code in _AGAIN) from None
        except (OSError, ValueError) as error:  # refused, timed out, reset, torn, no such host
            raise _failure(f"{type(error).__name__}: {error}", may_pass=True) from None
        except Exception as error:  # http.client's own errors have a base of their own
            if type(error).__module__ != "http.client":
                raise
            raise _failure(f"not HTTP: {type(error).__name__}", may_pass=True) from None
        if len(content) > _LARGEST_REPLY:
            raise _failure(f"a reply of more than {_LARGEST_REPLY >> 20} MB", may_pass=False)
        try:
            return parse_json(content.decode("utf-8"), "the reply")
        except (InputError, UnicodeDecodeError) as error:
            raise _failure(str(error), may_pass=True) from None


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


def _failure(reason: str, may_pass: bool) -> TransportError:
    error = TransportError(reason)
    error.may_pass = may_pass  # type: ignore[attr-defined]
    return error


def _first_choice(reply: Any) -> str:
    try:
        words = reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        words = None
    if isinstance(words, list):  # content parts
        words = "".join(str(part.get("text", "")) for part in words if isinstance(part, Mapping))
    if not isinstance(words, str) or not words.strip():
        raise _failure("a reply without words", may_pass=False)
    return words
