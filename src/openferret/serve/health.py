"""What supervisors ask: is it alive, is it ready, how is it doing."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from openferret.serve.asking import service_of
from openferret.serve.metrics import CONTENT_TYPE
from openferret.serve.reference import reference_page

router = APIRouter(tags=["health"])


@router.get("/health/live")
async def live() -> Response:
    """The server runs."""
    return JSONResponse({"status": "live"})


@router.get("/health/ready", responses={503: {"description": "Not warmed up, or its model has died."}})
async def ready(request: Request) -> Response:
    """The model has answered once, and goes on answering."""
    if service_of(request).engine.ready:
        return JSONResponse({"status": "ready"})
    return JSONResponse({"status": "not ready"}, 503)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Counts, for Prometheus."""
    return Response(service_of(request).engine.metrics.text(), media_type=CONTENT_TYPE)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The API, to be read."""
    return HTMLResponse(reference_page(request.app.openapi()))


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """The API, for programs."""
    return JSONResponse(request.app.openapi())
