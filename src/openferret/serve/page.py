"""The page: its files are read once at the start, so nothing is read from disk on a client's word."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Request, Response

from openferret.serve.errors import ServeError

DIST = Path(__file__).with_name("web") / "dist"

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class PageFile:
    """A file of the page."""

    content: bytes
    media_type: str
    tag: str


def read_page(folder: Path = DIST) -> dict[str, PageFile]:
    """The files of a built page by their path, such as "index.html"; none where it is not built."""
    return {
        file.relative_to(folder).as_posix(): _read_file(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@router.get("/")
async def index(request: Request) -> Response:
    """The page itself."""
    return _send(request, "index.html")


@router.get("/favicon.ico")
async def icon(request: Request) -> Response:
    """What browsers ask for by themselves."""
    return _send(request, "favicon.ico")


@router.get("/assets/{name:path}")
async def asset(name: str, request: Request) -> Response:
    """Its scripts, styles and pictures."""
    return _send(request, f"assets/{name}")


def _send(request: Request, name: str) -> Response:
    files: Mapping[str, PageFile] = request.app.state.page
    if "index.html" not in files:
        raise ServeError(404, "page_not_built", "the page is not built in this installation")
    found = files.get(name)
    if found is None:
        raise ServeError(404, "not_found", "there is nothing here")
    headers = {"ETag": found.tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)


def _read_file(file: Path) -> PageFile:
    content = file.read_bytes()
    kinds = {".js": "text/javascript", ".svg": "image/svg+xml", ".webp": "image/webp"}
    kind = kinds.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return PageFile(content, kind, f'"{sha256(content).hexdigest()[:32]}"')
