"""What a client is told when a request cannot be answered: a status, a stable code and a sentence, no internals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi.exceptions import HTTPException

from openferret.checks import shorten

# How pydantic calls the forms of a field that is text or a list.
_FORM = re.compile(r"constrained-str|list\[.*\]")
_PLAINLY = dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "an object is expected")
_TYPES = {401: "authentication_error", 408: "timeout_error", 429: "rate_limit_error", 504: "timeout_error"}


class ServeError(HTTPException):
    """A request that is refused.

    Args:
        status: of HTTP.
        code: stable, for programs; `docs/serving.md` lists them all.
        message: a sentence for people.
        headers: of the reply.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.code = code

    def body(self) -> dict[str, Any]:
        """The JSON form.

        >>> ServeError(404, "unknown_image", "no such image").body()["error"]["code"]
        'unknown_image'
        """
        default = "invalid_request_error" if self.status_code < 500 else "server_error"
        kind = _TYPES.get(self.status_code, default)
        return {"error": {"code": self.code, "message": str(self.detail), "type": kind}}


def busy(code: str, message: str) -> ServeError:
    """429: there is no room now; the client may come again in a second."""
    return ServeError(429, code, message, {"Retry-After": "1"})


def shutting_down() -> ServeError:
    """503: the server was told to stop."""
    return ServeError(503, "shutting_down", "the server is stopping")


def internal_error() -> ServeError:
    """500: ours, and nothing of it is shown."""
    return ServeError(500, "internal_error", "the server failed to answer; the fault is not yours")


def explain_invalid(problems: Iterable[Mapping[str, Any]]) -> ServeError:
    """422 that says where the first problem of a body is, and what; values are not repeated.

    A field that is text or a list has problems as both; what is said is that of the form that was sent.
    """
    found = list(problems)
    first = next((one for one in found if not _is_other_form(one)), found[0] if found else {})
    steps = [str(step) for step in first.get("loc", ()) if step != "body" and not _is_form(step)]
    if _is_other_form(first):
        what = "text or a list is expected"
    else:
        said = str(first.get("msg", "is not of the expected form")).removeprefix("Value error, ")
        what = shorten(_PLAINLY.get(str(first.get("type")), said), 160)
    return ServeError(422, "invalid_body", f"{shorten('.'.join(steps), 120) or 'the body'}: {what}")


def _is_form(step: object) -> bool:
    return isinstance(step, str) and _FORM.fullmatch(step) is not None


def _is_other_form(problem: Mapping[str, Any]) -> bool:
    return problem.get("type") in ("string_type", "list_type") and _is_form([*problem.get("loc", ()), ""][-2])
