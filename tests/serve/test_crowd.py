"""More connections than a server holds: idle ones make room, and where none is idle health is answered still."""

import json
import socket
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path

import pytest
import uvicorn

from openferret.serve import connection
from openferret.serve.app import ServerSettings, create_app
from openferret.serve.connection import PatientProtocol, Room, room_for_connections
from openferret.serve.engine import Engine

MOST = 8
HEALTH = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
PAGE = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
HALF_A_BODY = (
    b"POST /v1/ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 90\r\n\r\n{"
)


@pytest.fixture
def small_server(tiny, make):
    """The port of a server for eight connections, in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = create_app(Engine(tiny.loaded("kit")), ServerSettings())
        config = uvicorn.Config(
            app, log_config=None, lifespan="on", ws="none", http=PatientProtocol, limit_concurrency=MOST
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        make.wait_for(lambda: server.started and make.get(port, "/health/ready")[0] == 200)
        make.wait_for(lambda: not server.server_state.connections)
        yield port, server.server_state.connections
        server.should_exit = True
        thread.join(60)


@contextmanager
def connections(port, count, said=b""):
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            with suppress(ConnectionError):  # it may be closed already
                one.sendall(said)
            opened.append(one)
        yield opened


def status(one):
    """Of the reply that comes on a connection, which is read whole."""
    with closing(HTTPResponse(one)) as reply:
        reply.begin()
        reply.read()
        return reply.status


def ask(port, said):
    """The whole reply on a connection of its own."""
    reply = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as one:
        one.sendall(said)
        while piece := one.recv(65536):
            reply += piece
    return reply


def test_the_connection_that_was_idle_longest_makes_room(small_server, make, monkeypatch):
    port, held = small_server
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.0)
    with connections(port, 1) as (first,), connections(port, MOST - 1, HALF_A_BODY):
        make.wait_for(lambda: len(held) == MOST)
        assert ask(port, HEALTH).startswith(b"HTTP/1.1 200")
        assert first.recv(10) == b""  # closed
        with connections(port, 1, PAGE) as (another,):
            assert status(another) == 200


def test_a_kept_connection_makes_room_too(small_server, make, monkeypatch):
    port, held = small_server
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.0)
    with connections(port, 1, PAGE) as (kept,), connections(port, MOST - 1, HALF_A_BODY):
        assert status(kept) == 200
        make.wait_for(lambda: len(held) == MOST)
        assert ask(port, HEALTH).startswith(b"HTTP/1.1 200")
        assert kept.recv(10) == b""


def test_where_none_is_idle_a_new_one_is_refused_and_health_answered(small_server, make):
    port, held = small_server
    with connections(port, MOST, HALF_A_BODY):
        make.wait_for(lambda: len(held) == MOST)
        head, _, body = ask(port, PAGE).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in head.lower()
        assert json.loads(body)["error"]["code"] == "too_many_connections"
        assert ask(port, HEALTH).startswith(b"HTTP/1.1 200")
    make.wait_for(lambda: not held)
    with connections(port, 1, PAGE) as (after,):
        assert status(after) == 200


def test_a_connection_that_has_only_just_come_need_not_make_room(small_server, make, monkeypatch):
    port, held = small_server
    monkeypatch.setattr(connection, "IDLE_SECONDS", 600.0)
    with connections(port, 1) as (first,), connections(port, MOST - 1, HALF_A_BODY):
        make.wait_for(lambda: len(held) == MOST)
        assert b"too_many_connections" in ask(port, PAGE)
        assert ask(port, HEALTH).startswith(b"HTTP/1.1 200")
        first.sendall(PAGE)
        assert status(first) == 200


@pytest.mark.parametrize("said", [b"", HALF_A_BODY], ids=["idle", "busy"])
def test_no_more_are_held_than_can_be_told_so(small_server, make, monkeypatch, said):
    port, held = small_server
    monkeypatch.setattr(connection, "IDLE_SECONDS", 600.0)
    monkeypatch.setattr(connection, "_BEYOND", 4)
    with connections(port, 3 * MOST, said):
        make.wait_for(lambda: MOST <= len(held) <= MOST + 4)
    make.wait_for(lambda: not held)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of open files")
def test_room_is_what_the_system_gives(monkeypatch):
    import resource

    limits = [1000, 1100]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: limits.__setitem__(slice(None), wanted))
    assert room_for_connections(1024, 2048) == Room(1100 - 64 - 256, 64)
    assert limits == [1100, 1100]
    limits[:] = [1024, resource.RLIM_INFINITY]
    assert room_for_connections(1024, 2048) == Room(1024, 2048)
    assert limits[0] == 1024 + 2048 + 256
    limits[:] = [resource.RLIM_INFINITY] * 2
    assert room_for_connections(1024, 2048) == Room(1024, 2048)
    limits[:] = [100, 100]
    assert room_for_connections(1024, 2048) == Room(1, 64)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    "said", [b"", b"GET /health/live HT", HALF_A_BODY], ids=["idle", "half a head", "half a body"]
)
def test_a_flood_leaves_health_answered_and_memory_as_it_was(process_server, said, make):
    process, port = process_server

    def kilobytes():
        lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    before = kilobytes()
    with connections(port, 1100, said):
        for _ in range(5):
            assert ask(port, HEALTH).startswith(b"HTTP/1.1 200")
            time.sleep(0.1)
        assert kilobytes() - before < 200_000
    assert process.poll() is None
    make.wait_for(lambda: make.get(port, "/v1/models")[0] == 200)
