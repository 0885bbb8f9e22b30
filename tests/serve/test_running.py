"""A real server on loopback, in a process of its own."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

SERVER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("tiny", sys.argv[1])
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)
from openferret.serve.app import ServerSettings
from openferret.serve.engine import Engine
from openferret.serve.running import run_server
run_server(Engine(tiny.loaded("kit")), ServerSettings(), "127.0.0.1", int(sys.argv[2]), 15)
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


@pytest.fixture
def server(make):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVER, str(TINY), str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        make.wait_for(lambda: process.poll() is not None or ready(port), 300)
        assert process.poll() is None, process.stderr.read()
        yield process, port
    finally:
        process.kill()
        process.wait(10)
        process.stderr.close()


def long_stream(port, make, tokens=512):
    """The first bytes of a stream that goes on for long, on a connection of its own."""
    body = json.dumps({"image": make.inline(), "question": "a", "max_new_tokens": tokens, "stream": True})
    plain = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = f"POST /v1/ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    plain.sendall(f"{head}\r\n\r\n{body}".encode())
    return plain


def counted(port, name):
    _, text = get(port, "/metrics")
    return {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line[0] != "#"}.get(
        name, 0
    )


@pytest.mark.slow
def test_a_client_that_goes_away_ends_its_answer(server, make):
    _, port = server
    connection = long_stream(port, make)
    make.wait_for(lambda: counted(port, 'openferret_pictures_total{cache="miss"}') == 1, 60)
    connection.close()
    make.wait_for(lambda: counted(port, "openferret_cancelled_total") == 1, 5)
    assert counted(port, "openferret_tokens_total") == 0


@pytest.mark.slow
def test_sigterm_answers_what_was_begun_and_then_ends(server, make):
    process, port = server
    connection = long_stream(port, make, 200)
    make.wait_for(lambda: counted(port, 'openferret_pictures_total{cache="miss"}') == 1, 60)
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    with connection:
        said = b""
        while piece := connection.recv(65536):
            said += piece
    assert b"event: answer" in said
    process.wait(20)
    assert time.monotonic() - told < 20
    with pytest.raises(OSError, match="refused"):
        get(port, "/health/live")


@pytest.mark.slow
def test_a_second_sigterm_ends_it_at_once(server, make):
    process, port = server
    connection = long_stream(port, make)
    make.wait_for(lambda: counted(port, 'openferret_pictures_total{cache="miss"}') == 1, 60)
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    connection.close()
    assert time.monotonic() - told < 6
