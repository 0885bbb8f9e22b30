"""OpenAI's chat completions and models, with regions as content parts and boxes in the reply."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from openferret.generation.questions import Question
from openferret.regions import Mask, Region
from openferret.scene import Scene
from openferret.serve.asking import (
    EventStream,
    Subject,
    new_id,
    new_job,
    outcome,
    service_of,
    subject,
    timings,
)
from openferret.serve.conversation import Dialogue, read_dialogue, write_dialogue
from openferret.serve.errors import ServeError
from openferret.serve.limits import Limits
from openferret.serve.routing import CheckedRoute, failures, streamed
from openferret.serve.schemas import ChatBody
from openferret.serve.streaming import event
from openferret.serve.work import Outcome, Written, about_region, read_answer

router = APIRouter(prefix="/v1", route_class=CheckedRoute, tags=["OpenAI"])

_NEW_TOKENS = 128


@router.get("/models")
async def models(request: Request) -> Response:
    """The one model there is."""
    return JSONResponse({"object": "list", "data": [_model(service_of(request).engine.name)]})


@router.get("/models/{name}", responses=failures(404))
async def model(name: str, request: Request) -> Response:
    """The model, if it is called that."""
    known = service_of(request).engine.name
    if name != known:
        raise _unknown_model(known)
    return JSONResponse(_model(known))


@router.post("/chat/completions", responses={**streamed(), **failures(400, 404, 413, 415, 422, 429, 504)})
async def chat(body: ChatBody, request: Request) -> Response:
    """A conversation about one picture; `grounding` in the reply holds phrases, spans, boxes and scores."""
    service = service_of(request)
    if body.model != service.engine.name:
        raise _unknown_model(service.engine.name)
    dialogue = read_dialogue(body.messages)
    name, created = new_id("chatcmpl"), int(time.time())

    def head(kind: str) -> dict[str, Any]:
        return {"id": name, "object": kind, "created": created, "model": service.engine.name}

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**head("chat.completion.chunk"), "choices": [choice], **more}

    opening = {"role": "assistant"}  # said once: clients put the pieces of a stream together

    def piece(text: str) -> bytes:
        delta = {**opening, "content": text}
        opening.clear()
        return event(chunk(delta))

    def end(done: Outcome) -> bytes:
        last = event(chunk({**opening}, _finish(done), **_grounding(done)))
        if body.stream_options is not None and body.stream_options.include_usage:
            last += event({**head("chat.completion.chunk"), "choices": [], "usage": _usage(done)})
        return last + event("[DONE]")

    async with AsyncExitStack() as stack:
        about = await stack.enter_async_context(subject(service, dialogue.image, dialogue.specs))
        job = new_job(request, about.picture, _work(body, dialogue, about, service.limits))
        if body.stream:
            return EventStream(
                service,
                job,
                stack.pop_all(),
                piece,
                end,
                lambda error: event(error.body()),
            )
        done = await outcome(service, request, job)
    message = {"role": "assistant", "content": done.answers[0].text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(done)}
    whole = {**head("chat.completion"), "choices": [choice], "usage": _usage(done), **_grounding(done)}
    return JSONResponse(whole)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "openferret"}


def _unknown_model(known: str) -> ServeError:
    return ServeError(404, "unknown_model", f"the only model here is {known!r}")


def _work(body: ChatBody, dialogue: Dialogue, about: Subject, limits: Limits) -> Written:
    most = body.max_completion_tokens or body.max_tokens or _NEW_TOKENS
    regions: list[Region] = about.regions
    if about.alpha is not None and not regions:
        first = replace(dialogue.turns[0], question=about_region(dialogue.turns[0].question), regions=1)
        dialogue = replace(dialogue, turns=(first, *dialogue.turns[1:]))
        regions = [Mask(about.alpha)]

    def ask(scene: Scene) -> list[Question]:
        return [write_dialogue(scene, dialogue, regions, most, limits.prompt_tokens)]

    return Written(1, ask, read_answer, most, body.temperature or 0.0, body.seed or 0)


def _finish(done: Outcome) -> str:
    return "stop" if done.complete else "length"


def _usage(done: Outcome) -> dict[str, int]:
    asked, new = done.prompt_tokens, done.new_tokens
    return {"prompt_tokens": asked, "completion_tokens": new, "total_tokens": asked + new}


def _grounding(done: Outcome) -> dict[str, Any]:
    return {"grounding": done.answers[0].to_dict(), "timings": timings(done.seconds)}
