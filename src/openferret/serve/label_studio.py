"""A Label Studio ML back end: boxes before a person looks, for projects with `<RectangleLabels>`.

The contract is that of label-studio-ml-backend: `GET /health`, `POST /setup`, `POST /predict`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from urllib.parse import parse_qs, unquote

import anyio.to_thread
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from openferret.answer import Answer
from openferret.checks import shorten
from openferret.errors import InputError
from openferret.exporters import to_label_studio
from openferret.serve.errors import ServeError
from openferret.serve.folders import AllowedFolders
from openferret.serve.label_config import LONGEST_CONFIG, BoxControl, read_label_config
from openferret.serve.limits import LIMITS, Limits
from openferret.serve.pictures import Picture, PictureStore, read_data_url
from openferret.serve.routing import CheckedRoute, failures

Ground: TypeAlias = Callable[[Request, Picture, Sequence[str]], Awaitable[Answer]]

_MOST_TASKS = 256
_STORED = re.compile(r"(?:/v1/images/)?(img_[0-9A-Za-z]{1,60})")


class _Loose(BaseModel):
    """What Label Studio sends has fields that differ by its version: those we need are checked."""

    model_config = ConfigDict(extra="ignore")


class SetupBody(_Loose):
    """Sent when a project is connected: the labelling interface as XML."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"project": "1.1718752486", "schema": "<View/>"}]}
    )

    label_config: Annotated[str, Field(alias="schema", max_length=LONGEST_CONFIG)] = ""


class Task(_Loose):
    """A task; `data` has the picture under the name that the interface gives it."""

    id: int | str | None = None
    data: dict[str, Any]


class PredictBody(_Loose):
    """Tasks to label before a person sees them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "tasks": [{"id": 1, "data": {"image": "/data/local-files/?d=photos/cat.jpg"}}],
                    "label_config": '<View><Image name="image" value="$image"/><RectangleLabels name="label" '
                    'toName="image"><Label value="cat"/></RectangleLabels></View>',
                }
            ]
        }
    )

    tasks: Annotated[list[Task], Field(max_length=_MOST_TASKS, fail_fast=True)]
    label_config: Annotated[str, Field(max_length=LONGEST_CONFIG)]


def label_studio_router(
    ground: Ground,
    store: PictureStore,
    *,
    model_version: str,
    folders: Iterable[str | Path] = (),
    limits: Limits = LIMITS,
) -> APIRouter:
    """The three routes, to be included in the server's application under a prefix, which Label Studio is told.

    A picture is a data URL, the id of a picture sent to `/v1/images`, or a file in the allowed folders: a path,
    Label Studio's `/data/local-files/?d=...`, or its `/data/upload/...` where a folder is its media folder. An
    address is never fetched.

    Args:
        ground: finds names in a picture, for the client of a request: a mention for each, in order, with boxes.
        store: decodes pictures within the server's limits, and knows those sent before.
        model_version: what Label Studio files the predictions under.
        folders: files may be read from; none by default.
        limits: of a file's size and of the names looked for at once.

    Raises:
        InputError: a folder that is not there.
    """
    allowed = AllowedFolders.of(folders)
    router = APIRouter(tags=["label studio"], route_class=CheckedRoute)

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Whether the back end is there."""
        return {"status": "UP", "model_class": "OpenFerret"}

    @router.post("/setup", responses=failures(400, 413, 415, 422))
    async def setup(body: SetupBody) -> dict[str, str]:
        """Connect a project. One without boxes yet is accepted: its interface may be written later."""
        if body.label_config.strip():
            read_label_config(body.label_config)
        return {"model_version": model_version}

    @router.post("/predict", responses=failures(400, 404, 413, 415, 422, 429, 504))
    async def predict(request: Request, body: PredictBody) -> dict[str, Any]:
        """Label tasks: as many results as tasks, in order. One that failed is empty and has an `error`."""
        controls = read_label_config(body.label_config)
        if not controls:
            raise ServeError(
                422, "no_rectangle_labels", "the labelling interface has no <RectangleLabels> of an <Image>"
            )
        results: list[dict[str, Any]] = []
        failure: ServeError | None = None
        for task in body.tasks:
            try:
                boxes = [one for control in controls for one in await _label(request, task, control)]
            except ServeError as error:
                if error.status_code in (429, 499) or error.status_code >= 500:  # not of this picture
                    raise
                failure = failure or error
                results.append(_prediction([]) | error.body())
            else:
                results.append(_prediction(boxes))
        if failure is not None and all("error" in one for one in results):
            raise failure  # empty results would be filed as "nothing is there"
        return {"results": results, "model_version": model_version}

    def _prediction(boxes: list[dict[str, Any]]) -> dict[str, Any]:
        scores = [one["score"] for one in boxes if "score" in one]
        return {"model_version": model_version, "result": boxes, "score": min(scores, default=0.0)}

    async def _label(request: Request, task: Task, control: BoxControl) -> list[dict[str, Any]]:
        source = task.data.get(control.field)
        if not isinstance(source, str) or not source:
            raise ServeError(422, "no_picture", f"the task has no picture under {shorten(control.field)!r}")
        async with await open_picture(source) as picture:
            boxes: list[dict[str, Any]] = []
            for start in range(0, len(control.phrases), limits.phrases):
                some = control.phrases[start : start + limits.phrases]
                try:
                    answer = await ground(request, picture, [phrase for phrase, _ in some])
                except InputError as error:
                    raise ServeError(422, "invalid_label", str(error)) from None
                boxes += _control_boxes(control, [label for _, label in some], answer, len(boxes))
            return boxes

    async def open_picture(source: str) -> AbstractAsyncContextManager[Picture]:
        if source[:5].lower() == "data:":
            return store.decoded(read_data_url(source))
        stored = _STORED.fullmatch(source)
        if stored:
            return store.named(stored[1])
        try:
            name = _file_name(source)
            raw = await anyio.to_thread.run_sync(_read_file, allowed, name, limits.body)
        except InputError as error:
            raise ServeError(422, "picture_not_allowed", str(error)) from None
        return store.decoded(raw)

    return router


def _control_boxes(
    control: BoxControl, labels: Sequence[str], answer: Answer, before: int
) -> list[dict[str, Any]]:
    """Label Studio's boxes of an answer, under the names that the project's own interface has for them."""
    (task,) = to_label_studio([("", answer)])
    found: list[dict[str, Any]] = task["predictions"][0]["result"]
    owners = [label for label, one in zip(labels, answer.mentions, strict=True) for _ in one.boxes]
    kept: list[dict[str, Any]] = []
    for box, label in zip(found, owners, strict=True):
        if box.get("score", 1.0) < control.threshold:
            continue
        named = {
            "id": f"{control.name}-{before + len(kept) + 1}",
            "from_name": control.name,
            "to_name": control.image,
        }
        kept.append(box | named | {"value": box["value"] | {"rectanglelabels": [label]}})
    return kept


def _file_name(source: str) -> str:
    """The path in a task's picture, as Label Studio writes paths; InputError for an address."""
    if "://" in source or source.startswith("//"):
        raise InputError("pictures are not fetched from addresses: use local files, data URLs or /v1/images")
    if not source.startswith("/data/"):
        return source
    path, _, query = source.removeprefix("/data/").partition("?")
    if path.rstrip("/") == "local-files":
        return parse_qs(query).get("d", [""])[0]
    return unquote(path)


def _read_file(allowed: AllowedFolders, name: str, most: int) -> bytes:
    file = allowed.find(name)
    try:
        with file.open("rb") as stream:
            raw = stream.read(most + 1)
    except OSError as error:
        raise InputError("the picture cannot be read") from error
    if len(raw) > most:
        raise InputError(f"the picture's file is larger than {most // 10**6} megabytes")
    return raw
