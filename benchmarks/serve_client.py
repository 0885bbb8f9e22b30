"""Servers to measure, each in a process of its own, and the smallest client that can measure them."""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import io
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

PICTURES = Path(__file__).parents[1] / "examples" / "pictures"
SIDE = 320  # pixels of a picture that is cut out
_START_SECONDS = 300


@dataclass(frozen=True)
class Reply:
    """What came of a request: seconds to its first text (None: there was none), to its end, and its status."""

    status: int
    first: float | None
    whole: float
    body: bytes


def cut_out(chance: random.Random) -> bytes:
    """A JPEG of a random place of an example picture; no two are alike."""
    with Image.open(chance.choice(sorted(PICTURES.glob("*.jpg")))) as whole:
        left = chance.randrange(whole.width - SIDE)
        top = chance.randrange(max(1, whole.height - SIDE))
        held = io.BytesIO()
        whole.crop((left, top, left + SIDE, min(whole.height, top + SIDE))).save(held, "JPEG", quality=90)
    return held.getvalue()


def data_url(raw: bytes, kind: str = "jpeg") -> str:
    """A picture as it stands in JSON."""
    return f"data:image/{kind};base64,{base64.b64encode(raw).decode()}"


def random_box(chance: random.Random, side: int = SIDE) -> dict[str, object]:
    """A box in a picture, of at least 20 pixels."""
    (x1, x2), (y1, y2) = (sorted(chance.sample(range(0, side, 20), 2)) for _ in "xy")
    return {"type": "box", "x1": x1, "y1": y1, "x2": x2, "y2": y2}


async def ask(port: int, path: str, body: dict[str, object]) -> Reply:
    """Posts JSON on a connection of its own."""
    sent = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
    )
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + sent)
        await writer.drain()
        got, first = b"", None
        while piece := await reader.read(65536):
            got += piece
            if first is None and b"data: " in got:
                first = time.perf_counter() - begun
    finally:
        writer.close()
    return Reply(int(got.split(b" ", 2)[1]), first, time.perf_counter() - begun, got)


def get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a GET."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read()


@contextmanager
def server(model: str, rows: int, cache_megabytes: int, **more: float) -> Iterator[tuple[int, int]]:
    """A server in a process of its own, ready: its port and process id. It is stopped in the end."""
    words = [f"--{name.replace('_', '-')}={value}" for name, value in more.items()]
    with started([sys.executable, __file__, model, str(rows), str(cache_megabytes), *words]) as running:
        yield running


@contextmanager
def started(command: Sequence[str]) -> Iterator[tuple[int, int]]:
    """A server of a command that takes `--port`, ready: its port and process id. It is stopped in the end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([*command, f"--port={port}"], stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + _START_SECONDS
        while not _is_ready(port):
            if process.poll() is not None or time.monotonic() > ends:
                raise SystemExit("the server did not start")
            time.sleep(0.2)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(30)


def _is_ready(port: int) -> bool:
    try:
        return get(port, "/health/ready")[0] == 200
    except OSError:
        return False


def _serve() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("rows", type=int)
    parser.add_argument("cache_megabytes", type=int)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--deadline", type=float, default=600.0)
    parser.add_argument("--image-megabytes", type=int, default=512)
    given = parser.parse_args()
    from openferret import Ferret
    from openferret.serve.app import ServerSettings
    from openferret.serve.engine import Engine, EngineSettings
    from openferret.serve.running import run_server

    engine = EngineSettings(cache_bytes=given.cache_megabytes * 1_000_000, rows=given.rows)
    settings = ServerSettings(deadline=given.deadline, image_bytes=given.image_megabytes * 1_000_000)
    run_server(Engine(Ferret.load(given.model).loaded, engine), settings, "127.0.0.1", given.port, 15)


if __name__ == "__main__":
    _serve()
