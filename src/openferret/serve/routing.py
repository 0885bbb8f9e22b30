"""How a JSON body is read: its content type, its depth and its size are checked before it is parsed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio.to_thread
from fastapi import Request, Response
from fastapi.routing import APIRoute

from openferret.serve.errors import ServeError
from openferret.serve.limits import read_json
from openferret.serve.schemas import ErrorReply

_QUICK = 65_536  # bytes of JSON that are read in no time

_STATUSES = {
    400: "Not JSON, or nested too deep.",
    401: "No key, or a wrong one.",
    404: "No such picture or model.",
    413: "The body, the picture or the JSON is too large.",
    415: "Another content type or picture format.",
    422: "A field, a region or a picture cannot be used.",
    429: "Too many requests are waiting.",
    504: "The answer took too long.",
}


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of the errors of a route; 401 is always among them."""
    return {one: {"model": ErrorReply, "description": _STATUSES[one]} for one in sorted({401, *statuses})}


_EVENT = {
    "type": "object",
    "description": "One Server-Sent Event: `data` is JSON, a piece of text or at the end the whole reply.",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}


def streamed() -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of the success of a route that streams where its body asks for it.

    (Before OpenAPI 3.2 the schema of a stream of events describes each event.)
    """
    content = {"text/event-stream": {"schema": _EVENT}}
    return {200: {"description": "JSON, or events if `stream` is true.", "content": content}}


class CheckedRoute(APIRoute):
    """A route whose JSON is read by `openferret.serve.limits.read_json`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with checks before."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            if self.body_field is not None:
                kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if kind != "application/json":
                    raise ServeError(415, "unsupported_content_type", "send JSON as application/json")
            return await handle(_CheckedRequest(request.scope, request.receive))

        return checked


class _CheckedRequest(Request):
    async def json(self) -> Any:
        raw, limits = await self.body(), self.app.state.service.limits
        if len(raw) < _QUICK:
            return read_json(raw, limits)
        return await anyio.to_thread.run_sync(read_json, raw, limits)  # others are answered meanwhile
