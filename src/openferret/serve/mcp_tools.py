"""The Model Context Protocol server: look at a picture, locate things in it, describe what is pointed at.

Needs the extra `mcp`. Protocol: https://modelcontextprotocol.io.
"""

from __future__ import annotations

import base64
import io
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, ImageContent, TextContent, ToolAnnotations
from pydantic import Field

from openferret import __version__
from openferret.answer import Answer
from openferret.drawing import draw_answer
from openferret.errors import InputError, OpenFerretError
from openferret.images import load_image
from openferret.regions import Region
from openferret.serve.errors import ServeError
from openferret.serve.folders import AllowedFolders
from openferret.serve.limits import LIMITS
from openferret.serve.pictures import read_data_url
from openferret.serve.pointing import read_regions
from openferret.serve.schemas import RegionSpec

if TYPE_CHECKING:
    from PIL import Image as PillowImage

    from openferret.predictor import Ferret, Scene

_KEPT = 4  # pictures whose scenes are kept: a conversation is mostly about one
_DRAWN_SIDE = 1280  # pixels of the longer side of an annotated picture
_LARGEST_FILE = 256 * 2**20

_INSTRUCTIONS = (
    "Looks at pictures with a local model that says where things are. Coordinates are pixels of the upright "
    "picture, x to the right and y down. Every reply has JSON (text, mentions with boxes and scores 0..1) and the "
    "picture with the boxes drawn on it."
)

ImageName = Annotated[
    str,
    Field(
        description="Path of a picture in an allowed folder, or a data URL: data:image/png;base64,...",
        max_length=2 * LIMITS.body,
    ),
]
Question = Annotated[str | None, Field(description="A question instead of that.", max_length=LIMITS.text)]
Phrases = Annotated[
    list[Annotated[str, Field(max_length=LIMITS.phrase)]],
    Field(
        description='What to look for, such as ["a dog", "the red cup"].',
        min_length=1,
        max_length=LIMITS.phrases,
    ),
]
Threshold = Annotated[
    float | None,
    Field(description="Probability 0..1 below which a phrase is said not to be there.", ge=0, le=1),
]
Pointed = Annotated[
    RegionSpec,
    Field(
        description="In pixels: a point (x, y), box (x1, y1, x2, y2), scribble, polygon (points) or mask.",
    ),
]


class PictureTools:
    """What the tools do; safe to call from several threads.

    Args:
        load: opens the model, when the first picture is looked at: a client waits for a server that starts.
        folders: pictures may be read from.
    """

    def __init__(self, load: Callable[[], Ferret], folders: AllowedFolders) -> None:
        self.folders = folders
        self._load = load
        self._ferret: Ferret | None = None
        self._scenes: OrderedDict[str, Scene] = OrderedDict()
        self._one_at_a_time = threading.Lock()

    def look(self, image: str, question: str | None = None) -> CallToolResult:
        """Describe a picture, or answer a question about it."""
        with self._scene(image) as scene:
            answer = scene.describe() if question is None else scene.ask(question)
            return _reply(scene.image, answer, title=question)

    def locate(self, image: str, phrases: list[str], threshold: float | None = None) -> CallToolResult:
        """Find phrases in a picture."""
        with self._scene(image) as scene:
            return _reply(scene.image, scene.ground(phrases, threshold=threshold))

    def describe_region(self, image: str, region: RegionSpec, question: str | None = None) -> CallToolResult:
        """Say what is at a region of a picture, or answer a question about it."""
        with self._scene(image) as scene:
            (pointed,) = read_regions([region], scene.image.size, LIMITS)
            return _reply(scene.image, scene.refer(pointed, question), pointed, question)

    @contextmanager
    def _scene(self, image: str) -> Iterator[Scene]:
        """The picture, read by the model once; what goes wrong is told in one line."""
        try:
            raw = self._read(image)
            with self._one_at_a_time:
                digest = sha256(raw).hexdigest()
                scene = self._scenes.pop(digest, None) or self._encode(raw)
                self._scenes[digest] = scene
                while len(self._scenes) > _KEPT:
                    self._scenes.popitem(last=False)
                yield scene
        except ServeError as error:
            raise ToolError(str(error.detail)) from error
        except OpenFerretError as error:
            raise ToolError(str(error)) from error

    def _encode(self, raw: bytes) -> Scene:
        picture = load_image(raw)  # first: a bad picture need not wait for the model
        if self._ferret is None:
            self._ferret = self._load()
        return self._ferret.encode(picture)

    def _read(self, image: str) -> bytes:
        if image[:5].lower() == "data:":
            raw = read_data_url(image)
            if len(raw) > LIMITS.body:
                raise InputError(
                    f"the picture is larger than {LIMITS.body // 10**6} megabytes: give its path"
                )
            return raw
        if "://" in image:
            raise InputError("nothing is fetched from an address: give a path or a data URL")
        file = self.folders.find(image)
        try:
            with file.open("rb") as stream:
                raw = stream.read(_LARGEST_FILE + 1)
        except OSError as error:
            raise InputError(f"the picture cannot be read: {error.strerror}") from error
        if len(raw) > _LARGEST_FILE:
            raise InputError(f"the file is larger than {_LARGEST_FILE >> 20} MB: make it smaller")
        return raw


def mcp_server(tools: PictureTools) -> MCPServer[None]:
    """The server with its three tools; `run()` serves it over stdin and stdout.

    Args:
        tools: what they do.
    """
    server: MCPServer[None] = MCPServer(
        "openferret", version=__version__, instructions=_INSTRUCTIONS, log_level="WARNING"
    )
    reads_only = ToolAnnotations(read_only_hint=True, open_world_hint=False)

    @server.tool(annotations=reads_only)
    def look(image: ImageName, question: Question = None) -> CallToolResult:
        """Describe a picture in words that know their places, or answer a question about it."""
        return tools.look(image, question)

    @server.tool(annotations=reads_only)
    def locate(image: ImageName, phrases: Phrases, threshold: Threshold = None) -> CallToolResult:
        """Find where things are in a picture; a phrase without boxes is not in it."""
        return tools.locate(image, phrases, threshold)

    @server.tool(annotations=reads_only)
    def describe_region(image: ImageName, region: Pointed, question: Question = None) -> CallToolResult:
        """Say what is at a point, box, scribble, polygon or mask, or answer a question about it."""
        return tools.describe_region(image, region, question)

    return server


def _reply(
    image: PillowImage.Image, answer: Answer, region: Region | None = None, title: str | None = None
) -> CallToolResult:
    drawn = draw_answer(image, answer, [] if region is None else [region], title=title)
    drawn.thumbnail((_DRAWN_SIDE, _DRAWN_SIDE))
    coded = io.BytesIO()
    drawn.save(coded, "JPEG", quality=88)
    picture = base64.b64encode(coded.getvalue()).decode()
    form = answer.to_dict()
    return CallToolResult(
        content=[
            TextContent(type="text", text=json.dumps(form)),
            ImageContent(type="image", data=picture, mime_type="image/jpeg"),
        ],
        structured_content=form,
    )
