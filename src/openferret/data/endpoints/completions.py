"""One request to an OpenAI-compatible server: words, tokens used, whether they were cut off, when to come back.

`openferret.eval.transport` asks few questions in order and waits by itself; here thousands are asked at once, so
that waiting is the caller's, and a reply's cost matters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from openferret.eval.transport import ChatServer, TransportError, decoded_reply, post_chat

Messages: TypeAlias = Sequence[Mapping[str, str]]


class CompletionError(TransportError):
    """A request without a usable reply.

    Attributes:
        tokens: of the prompt and of the reply, as the server counts them, where it did reply: it wants to be paid.
    """

    tokens: tuple[int, int] | None = None


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
    try:
        reply = decoded_reply(post_chat(server, body))
    except TransportError as error:
        raise CompletionError(str(error), error.may_pass, error.wait, error.lost) from None
    counted = reply.get("usage")
    usage = counted if isinstance(counted, Mapping) else {}
    asked = _count(
        usage.get("prompt_tokens"), sum(estimate_tokens(message["content"]) for message in messages)
    )
    try:
        choice = reply["choices"][0]
        text = choice["message"]["content"]
        finished = choice.get("finish_reason") != "length"
    except (KeyError, IndexError, TypeError, AttributeError):
        choice, text, finished = None, None, False
    if not isinstance(text, str) or not text.strip():
        # A model that thinks until its tokens are spent says nothing, and is paid in full.
        what = "a reply that is not a chat completion" if choice is None else "a reply without words"
        wordless = CompletionError(what, may_pass=True, lost=True)
        said = _count(usage.get("completion_tokens"), -1)
        wordless.tokens = None if said < 0 else (asked, said)
        raise wordless
    return Completion(text, asked, _count(usage.get("completion_tokens"), estimate_tokens(text)), finished)


def _count(value: Any, otherwise: int) -> int:
    return value if type(value) is int and value >= 0 else otherwise
