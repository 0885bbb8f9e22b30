"""The server, put together: what a request goes through from outside to the routes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openferret import __version__
from openferret.answer import Answer
from openferret.serve import health, openai_chat, page, verbs, work
from openferret.serve.asking import Service, new_id, new_job, outcome
from openferret.serve.auth import Gate
from openferret.serve.errors import ServeError, explain_invalid, internal_error, shutting_down
from openferret.serve.fetch import Fetcher
from openferret.serve.jobs import Backend
from openferret.serve.label_studio import label_studio_router
from openferret.serve.limits import LIMITS, BodyLimit, Budget, Limits
from openferret.serve.metrics import Metrics
from openferret.serve.pictures import Picture, PictureStore
from openferret.serve.reading import ReadAhead

_log = logging.getLogger(__name__)

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_STOP_SECONDS = 1.5
_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


@dataclass(frozen=True)
class ServerSettings:
    """How a server behaves towards its clients.

    Attributes:
        keys: that are accepted; none opens the server to all who reach it.
        hosts: names by which a server without keys may be called.
        fetch_hosts: from which pictures are fetched by address; none turns that off.
        deadline: seconds for an answer.
        image_seconds: after which an unused picture is forgotten.
        image_bytes: of decoded pictures that are kept.
        limits: of requests.
        picture_folders: that Label Studio's tasks may name files in; none: pictures only as data or by id.
    """

    keys: Sequence[str] = field(default=(), repr=False)
    hosts: Sequence[str] = LOCAL_HOSTS
    fetch_hosts: Sequence[str] = ()
    deadline: float = 60.0
    image_seconds: float = 1800.0
    image_bytes: int = 512_000_000
    limits: Limits = LIMITS
    picture_folders: Sequence[Path] = ()


def create_app(
    engine: Backend, settings: ServerSettings = ServerSettings(), page_folder: Path = page.DIST
) -> FastAPI:
    """The ASGI application of a server.

    Args:
        engine: not yet started; it starts and ends with the application.
        settings: towards clients.
        page_folder: of the built page.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await reader.close()
        engine.close(_STOP_SECONDS)

    app = FastAPI(
        title="OpenFerret",
        version=__version__,
        summary="image + words + regions -> words + boxes",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    budget = Budget(settings.limits.held)
    store = PictureStore(settings.limits, budget, settings.image_bytes, settings.image_seconds)
    reader = ReadAhead(engine, store)
    app.state.page = page.read_page(page_folder)
    app.state.service = Service(
        engine,
        store,
        reader,
        Fetcher(settings.fetch_hosts, settings.limits.body),
        settings.limits,
        budget,
        settings.deadline,
    )
    for room in (openai_chat, verbs, health, page):
        app.include_router(room.router)
    # Its three routes are Label Studio's own contract, not this API's.
    app.include_router(_label_studio(app, settings), prefix="/label-studio", include_in_schema=False)
    # The last to be added is the first that a request meets.
    app.add_middleware(BodyLimit, limits=settings.limits, budget=budget)
    app.add_middleware(Gate, keys=settings.keys, hosts=settings.hosts)
    app.add_middleware(_Outermost, metrics=engine.metrics)
    app.add_exception_handler(HTTPException, _explain)
    app.add_exception_handler(RequestValidationError, _explain)
    return app


def _label_studio(app: FastAPI, settings: ServerSettings) -> APIRouter:
    service: Service = app.state.service

    async def ground(request: Request, picture: Picture, names: Sequence[str]) -> Answer:
        done = await outcome(service, request, new_job(request, picture, work.ground(names, False, None)))
        return done.answers[0]

    return label_studio_router(
        ground,
        service.store,
        model_version=f"openferret {__version__}",
        folders=settings.picture_folders,
        limits=settings.limits,
    )


class _Outermost:
    """Makes one reply of every failure, adds headers, counts, and logs a line without anything of the client's."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name, begun, status = new_id("req"), time.perf_counter(), 0
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the server leaves the body out

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_HEADERS, (b"x-request-id", name.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_on)
        except ServeError as error:
            self.metrics.refused.labels(error.code).inc()
            if not status:
                await _as_reply(error)(scope, receive, send_on)
        except (
            asyncio.CancelledError
        ):  # the time for what was begun is up: who has seen nothing yet is told so
            self.metrics.refused.labels("shutting_down").inc()
            if not status:
                await _as_reply(shutting_down())(scope, receive, send_on)
        except Exception as error:
            _log.error("%s failed: %s", name, type(error).__name__)
            self.metrics.refused.labels("internal_error").inc()
            if not status:
                await _as_reply(internal_error())(scope, receive, send_on)
        finally:
            taken = time.perf_counter() - begun
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(taken)
            _log.info("%s %s %s %d %.3f s", name, _method(scope), route, status, taken)


async def _explain(request: Request, error: Exception) -> Response:
    """One form for every refusal within the application."""
    if isinstance(error, RequestValidationError):
        refused = explain_invalid(error.errors())
    elif isinstance(error, ServeError):
        refused = error
    elif isinstance(error, HTTPException) and error.status_code in (404, 405):
        refused = _nothing_here(request, error)
    else:
        refused = ServeError(400, "bad_request", "the request cannot be read")
    engine: Backend = request.app.state.service.engine
    engine.metrics.refused.labels(refused.code).inc()
    return _as_reply(refused)


def _nothing_here(request: Request, error: HTTPException) -> ServeError:
    if error.status_code == 404:
        return ServeError(404, "not_found", "there is nothing here")
    # The framework names the methods of one route; a path may have several.
    path = getattr(request.scope.get("route"), "path", "")
    methods = request.app.openapi()["paths"].get(path, {})
    allowed = {"Allow": ", ".join(sorted(map(str.upper, methods)))} if methods else error.headers
    return ServeError(405, "method_not_allowed", "this cannot be done here", allowed)


def _as_reply(error: ServeError) -> JSONResponse:
    return JSONResponse(error.body(), error.status_code, dict(error.headers or {}))


def _method(scope: dict[str, Any] | Any) -> str:
    method = str(scope["method"])
    return method if method in ("GET", "HEAD", "POST", "DELETE") else "other"
