"""What clients send to a server that is soaked: good requests, and bad ones with the replies that they deserve."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
import struct
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from PIL import Image
from serve_client import SIDE, data_url, random_box


@dataclass(frozen=True)
class Attempt:
    """One request.

    Attributes:
        port: of the server, on loopback.
        chance: of this client.
        picture: a JPEG of SIDE x SIDE pixels or less.
    """

    port: int
    chance: random.Random
    picture: bytes

    @property
    def image(self) -> dict[str, str]:
        """The picture as it stands in JSON."""
        return {"data": data_url(self.picture)}


@dataclass(frozen=True)
class Kind:
    """A kind of request.

    Attributes:
        name: in the report.
        send: sends one; "200" or "422 invalid_body" or "closed".
        deserves: what may come of it.
    """

    name: str
    send: Callable[[Attempt], Awaitable[str]]
    deserves: frozenset[str]


async def exchange(port: int, sent: bytes, *, stay: bool = True, pause: float = 0.0) -> bytes:
    """Sends bytes on a connection of its own; all that comes back, or nothing if one does not stay for it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        await writer.drain()
        if not stay:
            await asyncio.sleep(pause)
            return b""
        return await reader.read()
    except ConnectionError:
        return b""  # it refused before it had read everything
    finally:
        writer.close()


def request(method: str, path: str, body: bytes = b"", kind: str = "application/json", *more: str) -> bytes:
    """A whole HTTP request."""
    heads = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *more]
    if body or method == "POST":
        heads += [f"Content-Type: {kind}"] * bool(kind)
        heads += [f"Content-Length: {len(body)}"] * (
            not any("ength" in one or "hunked" in one for one in more)
        )
    return "\r\n".join([*heads, "", ""]).encode() + body


def outcome(reply: bytes) -> str:
    """Status, and the code of an error."""
    if not reply:
        return "closed"
    head, _, body = reply.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1].decode()
    failed = status >= "4" or b"event: error" in body
    if not failed or b'"error"' not in body:
        return status
    return f"{status} {json.loads(body[body.index(b'{') :].splitlines()[0])['error']['code']}"


def post(path: str, make: Callable[[Attempt], object]) -> Callable[[Attempt], Awaitable[str]]:
    """Sends JSON."""

    async def send(attempt: Attempt) -> str:
        return outcome(
            await exchange(attempt.port, request("POST", path, json.dumps(make(attempt)).encode()))
        )

    return send


def raw(make: Callable[[Attempt], bytes], **how: float) -> Callable[[Attempt], Awaitable[str]]:
    """Sends bytes; with `pause`, the client goes away after so many seconds."""

    async def send(attempt: Attempt) -> str:
        stay = "pause" not in how
        return outcome(await exchange(attempt.port, make(attempt), stay=stay, pause=how.get("pause", 0.0)))

    return send


def picture(content: bytes, kind: str = "image/png") -> Callable[[Attempt], Awaitable[str]]:
    """Sends a file as a picture."""
    return raw(lambda attempt: request("POST", "/v1/images", content, kind))


def lying_png(width: int, height: int) -> bytes:
    """A PNG that promises more than it holds."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def file_of(form: str, size: tuple[int, int] = (40, 30)) -> bytes:
    """A good picture in some format."""
    held = io.BytesIO()
    Image.new("RGB", size, "red").save(held, form)
    return held.getvalue()


async def whole_visit(attempt: Attempt) -> str:
    """Sends a picture, asks by its id, looks at it and drops it."""
    sent = await exchange(attempt.port, request("POST", "/v1/images", attempt.picture, "image/jpeg"))
    name = json.loads(sent.partition(b"\r\n\r\n")[2])["id"]
    asked = {"image": {"id": name}, "question": "What is [0]?", "regions": [random_box(attempt.chance)]}
    steps = [
        request("POST", "/v1/ask", json.dumps(asked).encode()),
        request("GET", f"/v1/images/{name}"),
        request("DELETE", f"/v1/images/{name}"),
        request("GET", f"/v1/images/{name}"),
    ]
    return " ".join([outcome(await exchange(attempt.port, step)) for step in steps])


def chat(attempt: Attempt, **more: object) -> dict[str, object]:
    """A conversation in OpenAI's form."""
    parts = [
        {"type": "image_url", "image_url": {"url": data_url(attempt.picture)}},
        {"type": "text", "text": "What is"},
        {"type": "region", "region": random_box(attempt.chance)},
    ]
    return {"model": "kit", "messages": [{"role": "user", "content": parts}], "max_tokens": 16, **more}


def about(attempt: Attempt, region: object) -> dict[str, object]:
    """A question about a region."""
    return {"image": attempt.image, "region": region, "max_new_tokens": 8}


def _region_of_any_kind(attempt: Attempt) -> object:
    chance, side = attempt.chance, SIDE
    points = [[chance.uniform(-50, side + 50), chance.uniform(0, side)] for _ in range(5)]
    shape = Image.new("1", Image.open(io.BytesIO(attempt.picture)).size, 1)
    held = io.BytesIO()
    shape.save(held, "PNG")
    width, height = shape.size
    return chance.choice(
        [
            random_box(chance),
            {"type": "point", "x": chance.uniform(0, side), "y": chance.uniform(0, side)},
            {"type": "scribble", "points": points},
            {"type": "polygon", "points": [[10, 10], [150, 30], [80, 160]]},
            {"type": "mask", "png": base64.b64encode(held.getvalue()).decode()},
            {"type": "mask", "rle": {"size": [height, width], "counts": [0, 5000, height * width - 5000]}},
        ]
    )


def _kinds(entries: dict[str, tuple[Callable[[Attempt], Awaitable[str]], str]]) -> tuple[Kind, ...]:
    return tuple(Kind(name, send, frozenset(good.split(" | "))) for name, (send, good) in entries.items())


VALID = _kinds(
    {
        "refer": (post("/v1/refer", lambda a: about(a, _region_of_any_kind(a))), "200"),
        "refer, streamed": (
            post("/v1/refer", lambda a: about(a, random_box(a.chance)) | {"stream": True}),
            "200",
        ),
        "ground": (post("/v1/ground", lambda a: {"image": a.image, "phrases": ["a cup", "a cat"]}), "200"),
        "describe": (
            post("/v1/describe", lambda a: {"image": a.image, "max_new_tokens": 24, "stream": True}),
            "200",
        ),
        "detect": (post("/v1/detect", lambda a: {"image": a.image}), "200"),
        "chat": (post("/v1/chat/completions", chat), "200"),
        "chat, streamed": (post("/v1/chat/completions", lambda a: chat(a, stream=True)), "200"),
        "chat, drawn": (
            post("/v1/chat/completions", lambda a: chat(a, temperature=1.0, seed=a.chance.randrange(99))),
            "200",
        ),
        "a picture by id": (whole_visit, "200 200 204 404 unknown_image"),
        "a picture of one pixel": (
            post(
                "/v1/refer",
                lambda a: {
                    "image": {"data": data_url(file_of("PNG", (1, 1)), "png")},
                    "region": {"type": "point", "x": 0, "y": 0},
                    "max_new_tokens": 2,
                },
            ),
            "200",
        ),
        "page": (
            raw(
                lambda a: request(
                    "GET",
                    a.chance.choice(
                        ["/", "/docs", "/openapi.json", "/metrics", "/v1/models", "/health/ready"]
                    ),
                )
            ),
            "200",
        ),
    }
)

_ODD_TEXT = "\u202e\x00\x1b[31m\ufeff" + "a\u0300" * 200 + "\U0001f9e8"
HOSTILE = _kinds(
    {
        "noise": (
            raw(
                lambda a: request(
                    "POST", "/v1/images", b"\x89PNG\r\n\x1a\n" + a.chance.randbytes(300), "image/png"
                )
            ),
            "422 damaged_picture | 413 picture_too_large",
        ),
        "a picture cut off": (
            raw(lambda a: request("POST", "/v1/images", a.picture[: len(a.picture) // 2], "image/jpeg")),
            "422 damaged_picture",
        ),
        "a bomb of pixels": (picture(lying_png(60_000, 60_000)), "413 picture_too_large"),
        "a lying header": (picture(lying_png(900, 900)), "422 damaged_picture"),
        "GIF": (picture(file_of("GIF")), "415 unsupported_picture"),
        "TIFF": (picture(file_of("TIFF")), "415 unsupported_picture"),
        "SVG": (
            picture(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
            "415 unsupported_picture",
        ),
        "deep JSON": (raw(lambda a: request("POST", "/v1/ask", b"[" * 200_000)), "400 json_too_deep"),
        "NaN": (raw(lambda a: request("POST", "/v1/ask", b'{"question": NaN}')), "400 invalid_json"),
        "many values": (
            raw(lambda a: request("POST", "/v1/ask", b"[" + b"0," * 500_000 + b"0]")),
            "413 json_too_large",
        ),
        "a body too large": (
            raw(lambda a: request("POST", "/v1/images", b"x", "image/png", "Content-Length: 99999999")),
            "413 body_too_large",
        ),
        "a body without end": (
            raw(
                lambda a: request(
                    "POST",
                    "/v1/images",
                    b"".join(b"186a0\r\n" + b"x" * 100_000 + b"\r\n" for _ in range(170)),
                    "image/png",
                    "Transfer-Encoding: chunked",
                )
            ),
            "413 body_too_large | closed",
        ),
        "unknown field": (post("/v1/detect", lambda a: {"image": a.image, "secret": 1}), "422 invalid_body"),
        "a region outside": (
            post(
                "/v1/refer",
                lambda a: about(a, {"type": "box", "x1": -900, "y1": -900, "x2": -800, "y2": -800}),
            ),
            "200",
        ),
        "RLE bomb": (
            post(
                "/v1/refer",
                lambda a: about(a, {"type": "mask", "rle": {"size": [10**6, 10**6], "counts": [10**12]}}),
            ),
            "422 invalid_region",
        ),
        "RLE too long": (
            post(
                "/v1/refer",
                lambda a: about(a, {"type": "mask", "rle": {"size": [SIDE, SIDE], "counts": [10**18, 5]}}),
            ),
            "422 invalid_region",
        ),
        "too many vertices": (
            post("/v1/refer", lambda a: about(a, {"type": "polygon", "points": [[0, 0]] * 10_001})),
            "422 invalid_body",
        ),
        "another content type": (
            raw(lambda a: request("POST", "/v1/ask", b"{}", "text/plain")),
            "415 unsupported_content_type",
        ),
        "an address": (
            post("/v1/detect", lambda a: {"image": {"url": "https://169.254.169.254/latest"}}),
            "422 url_not_allowed",
        ),
        "a file": (
            post("/v1/detect", lambda a: {"image": {"data": "file:///etc/passwd"}}),
            "422 invalid_data_url",
        ),
        "no such picture": (
            post("/v1/detect", lambda a: {"image": {"id": "img_nothing"}}),
            "404 unknown_image",
        ),
        "no such path": (
            raw(lambda a: request("GET", f"/assets/../../{a.chance.randrange(10**9)}")),
            "404 not_found",
        ),
        "a wrong method": (raw(lambda a: request("PUT", "/v1/ask")), "405 method_not_allowed"),
        "another host": (
            raw(lambda a: b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"),
            "400 unknown_host",
        ),
        "no HTTP": (raw(lambda a: a.chance.randbytes(200) + b"\r\n\r\n"), "400 | closed"),
        "a head without end": (raw(lambda a: b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000), "400 | closed"),
        "a slow head": (raw(lambda a: b"GET / HT", pause=1.0), "closed"),
        "a slow body": (
            raw(
                lambda a: request("POST", "/v1/ask", b"{", "application/json", "Content-Length: 5000"),
                pause=1.0,
            ),
            "closed",
        ),
        "gone in a stream": (
            raw(
                lambda a: request(
                    "POST", "/v1/describe", json.dumps({"image": a.image, "stream": True}).encode()
                ),
                pause=0.4,
            ),
            "closed",
        ),
        "gone in an answer": (
            raw(
                lambda a: request("POST", "/v1/describe", json.dumps({"image": a.image}).encode()), pause=0.2
            ),
            "closed",
        ),
        "odd letters": (
            post("/v1/ask", lambda a: {"image": a.image, "question": _ODD_TEXT, "max_new_tokens": 4}),
            "200 | 422 invalid_input",
        ),
        "a turn too many": (
            post("/v1/chat/completions", lambda a: {"model": "kit", "messages": chat(a)["messages"] * 2}),
            "422 invalid_messages",
        ),
        "another model": (post("/v1/chat/completions", lambda a: chat(a, model="gpt")), "404 unknown_model"),
    }
)
