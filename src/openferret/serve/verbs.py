"""The plain verbs: /v1/images, /v1/refer, /v1/ground, /v1/describe, /v1/detect, /v1/ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from openferret.regions import Mask, Region
from openferret.serve import work
from openferret.serve.asking import (
    EventStream,
    Service,
    Subject,
    client_of,
    error_event,
    new_id,
    new_job,
    outcome,
    service_of,
    subject,
    timings,
)
from openferret.serve.errors import ServeError
from openferret.serve.routing import CheckedRoute, failures, streamed
from openferret.serve.schemas import (
    AskBody,
    DescribeBody,
    DetectBody,
    GroundBody,
    ImageInfo,
    ImageRef,
    ReferBody,
    RegionSpec,
    VerbReply,
)
from openferret.serve.streaming import event
from openferret.serve.work import Outcome, Work

router = APIRouter(prefix="/v1", route_class=CheckedRoute, tags=["verbs"])

_ASKED = failures(400, 404, 413, 415, 422, 429, 504)
_STREAMED = {**streamed(), **_ASKED}
_PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            f"image/{form}": {"schema": {"type": "string", "format": "binary"}}
            for form in ("jpeg", "png", "webp")
        },
    }
}


@router.post(
    "/images",
    status_code=201,
    response_model=ImageInfo,
    responses=failures(413, 415, 422, 429),
    openapi_extra=_PICTURE_BODY,
)
async def send_image(request: Request) -> Response:
    """Sends a picture once, to be asked many times by its id. It is read in the background."""
    service = service_of(request)
    if not request.headers.get("content-type", "").lower().startswith("image/"):
        raise ServeError(415, "unsupported_content_type", "send the picture's bytes as image/png or the like")
    raw = await request.body()
    async with service.store.decoded(raw) as picture:
        name = service.store.name(picture)
        service.reader.put(name, client_of(request))
        return JSONResponse(_image_info(service, name), 201)


@router.get("/images/{image_id}", response_model=ImageInfo, responses=failures(404))
async def look_at_image(image_id: str, request: Request) -> Response:
    """Whether a picture is still there; its time begins anew."""
    return JSONResponse(_image_info(service_of(request), image_id))


@router.delete("/images/{image_id}", status_code=204, responses=failures(404))
async def drop_image(image_id: str, request: Request) -> Response:
    """Forgets a picture."""
    service = service_of(request)
    digest = service.store.drop(image_id)
    if digest is not None:
        service.engine.forget(digest)
    return Response(status_code=204)


@router.post("/refer", response_model=VerbReply, responses=_STREAMED)
async def refer(body: ReferBody, request: Request) -> Response:
    """What is this? A region, several, or what is opaque of a picture that is transparent elsewhere."""
    specs = body.regions or ([] if body.region is None else [body.region])

    def make(about: Subject) -> Work:
        return work.refer(pointed_at(about), body.question, body.max_new_tokens)

    return await _reply(request, body.image, specs, make, body.stream, several=body.regions is not None)


@router.post("/ground", response_model=VerbReply, responses=_ASKED)
async def ground(body: GroundBody, request: Request) -> Response:
    """Where is this? A mention for each phrase; one without boxes is not in the picture."""
    return await _reply(
        request, body.image, (), lambda about: work.ground(body.phrases, body.merge, body.threshold)
    )


@router.post("/describe", response_model=VerbReply, responses=_STREAMED)
async def describe(body: DescribeBody, request: Request) -> Response:
    """A description of the picture, with boxes for what it names."""
    return await _reply(
        request, body.image, (), lambda about: work.describe(body.max_new_tokens, body.drafts), body.stream
    )


@router.post("/detect", response_model=VerbReply, responses=_ASKED)
async def detect(body: DetectBody, request: Request) -> Response:
    """Everything the model can name."""
    return await _reply(request, body.image, (), lambda about: work.detect(body.threshold))


@router.post("/ask", response_model=VerbReply, responses=_STREAMED)
async def ask(body: AskBody, request: Request) -> Response:
    """Any question; `[0]`, `[1]`, ... in it stand for the regions."""

    def make(about: Subject) -> Work:
        return work.ask(body.question, about.regions, body.max_new_tokens)

    return await _reply(request, body.image, body.regions, make, body.stream)


def pointed_at(about: Subject) -> list[Region]:
    """The regions of a request, or else what is opaque of its picture; ServeError 422 if there is neither."""
    if about.regions:
        return about.regions
    if about.alpha is None:
        raise ServeError(422, "no_region", "give a region, or a picture whose opaque part is the region")
    return [Mask(about.alpha)]


async def _reply(
    request: Request,
    image: ImageRef,
    specs: Sequence[RegionSpec],
    make: Callable[[Subject], Work],
    stream: bool = False,
    *,
    several: bool = False,
) -> Response:
    service = service_of(request)
    name = new_id("ask")

    def whole(done: Outcome) -> dict[str, Any]:
        answers = [one.to_dict() for one in done.answers]
        said = {"answers": answers} if several else {"answer": answers[0]}
        return {"id": name, "model": service.engine.name, **said, "timings": timings(done.seconds)}

    async with AsyncExitStack() as stack:
        about = await stack.enter_async_context(subject(service, image, specs))
        job = new_job(request, about.picture, make(about))
        if stream:
            return EventStream(
                service,
                job,
                stack.pop_all(),
                lambda text: event({"text": text}, "token"),
                lambda done: event(whole(done), "answer"),
                error_event,
            )
        return JSONResponse(whole(await outcome(service, request, job)))


def _image_info(service: Service, name: str) -> dict[str, Any]:
    width, height = service.store.size_of(name)
    return {"id": name, "width": width, "height": height, "expires_in": int(service.store.seconds)}
