"""A server in this process, over a tiny random model."""

import base64
import copy
import http.client
import io
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from openferret.serve.app import ServerSettings, create_app
from openferret.serve.engine import Engine
from openferret.serve.pictures import Picture

BOX = {"type": "box", "x1": 8, "y1": 8, "x2": 40, "y2": 40}


def picture(seed=0, size=(64, 48), mode="RGB"):
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], len(mode)), np.uint8)
    return Image.fromarray(noise if len(mode) > 1 else noise[..., 0])


def png(image):
    held = io.BytesIO()
    image.save(held, "PNG")
    return held.getvalue()


def data_url(raw, kind="png"):
    return f"data:image/{kind};base64,{base64.b64encode(raw).decode()}"


def inline(seed=0, **about):
    return {"data": data_url(png(picture(seed, **about)))}


def held(seed=0):
    """A picture as the store holds it."""
    return Picture(f"digest{seed}", picture(seed), None)


def wait_for(check, seconds=60.0):
    """Until a check holds; it fails after a while."""
    ends = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < ends
        time.sleep(0.005)


SERVER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("tiny", sys.argv[1])
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)
from openferret.serve.app import ServerSettings
from openferret.serve.engine import Engine
from openferret.serve.running import run_server
run_server(Engine(tiny.loaded("kit")), ServerSettings(), "127.0.0.1", int(sys.argv[2]), 60)
"""
TINY = Path(__file__).parents[1] / "tiny.py"


def get(port, path):
    """Status and text."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()


def ready(port):
    try:
        return get(port, "/health/ready")[0] == 200
    except OSError:
        return False


@pytest.fixture(scope="session")
def make():
    """Pictures and requests."""
    return SimpleNamespace(
        BOX=BOX,
        picture=picture,
        png=png,
        data_url=data_url,
        inline=inline,
        held=held,
        wait_for=wait_for,
        get=get,
    )


def enliven(loaded):
    """Tiny Kit with weights that make it write differently about everything, with phrases and boxes."""
    model = copy.deepcopy(loaded.model)
    config = model.config
    torch.manual_seed(1)
    with torch.no_grad():
        # Small embeddings let attention decide, and the output is tied to them no more.
        model.get_input_embeddings().weight.mul_(0.02)
        output = model.get_output_embeddings()
        output.weight = torch.nn.Parameter(torch.randn_like(output.weight))
        output.weight[[config.phrase_token_id, config.box_token_id]] *= 1.5
    return replace(loaded, model=model)


@pytest.fixture(scope="session")
def lively(tiny):
    return enliven(tiny.loaded("kit"))


@pytest.fixture
def new_engine(lively):
    """Makes started engines, stopped in the end."""
    made = []

    def build(*settings, start=True, loaded=None):
        engine = Engine(loaded or lively, *settings)
        if start:
            engine.start()
        made.append(engine)
        return engine

    yield build
    for engine in made:
        engine.close(10)


@pytest.fixture
def new_client(tiny):
    """Makes clients of servers of their own; all are stopped in the end."""
    opened = []

    def build(settings=None, engine=None, **app):
        settings = settings or ServerSettings(hosts=("testserver",))
        client = TestClient(create_app(engine or Engine(tiny.loaded("kit")), settings, **app))
        client.__enter__()
        opened.append(client)
        return client

    yield build
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def client(lively):
    with TestClient(create_app(Engine(lively), ServerSettings(hosts=("testserver",)))) as opened:
        yield opened


@pytest.fixture
def code():
    """Status and code of an error reply; it fails if anything of ours is shown."""

    def read(reply):
        error = reply.json()["error"]
        assert set(error) == {"code", "message", "type"}
        for inner in (
            "Traceback",
            "0x",
            str(Path(__file__).parents[2]),
            "site-packages",
            "pydantic",
            "Error(",
        ):
            assert inner not in reply.text
        return reply.status_code, error["code"]

    return read


@pytest.fixture
def process_server(make, tmp_path):
    """A real server on loopback, in a process of its own: the process and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVER, str(TINY), str(port)]
    said = tmp_path / "stderr"
    with said.open("w") as stream:
        process = subprocess.Popen(command, stderr=stream)
    try:
        make.wait_for(lambda: process.poll() is not None or ready(port), 300)
        assert process.poll() is None, said.read_text()
        yield process, port
    finally:
        process.kill()
        process.wait(60)
