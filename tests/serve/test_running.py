"""A real server on loopback, in a process of its own."""

import json
import signal
import socket
import time
from contextlib import suppress

import pytest


def long_stream(port, make, tokens=512):
    """The first bytes of a stream that goes on for long, on a connection of its own."""
    body = json.dumps({"image": make.inline(), "question": "a", "max_new_tokens": tokens, "stream": True})
    plain = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = f"POST /v1/ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    plain.sendall(f"{head}\r\n\r\n{body}".encode())
    return plain


def all_of(connection):
    """What is said until the connection ends, by whatever end."""
    said = b""
    with connection, suppress(ConnectionError):
        while piece := connection.recv(65536):
            said += piece
    return said


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except ConnectionRefusedError:
        return True
    return False


def counted(make, port, name):
    _, text = make.get(port, "/metrics")
    return {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line[0] != "#"}.get(
        name, 0
    )


@pytest.mark.slow
def test_a_client_that_goes_away_ends_its_answer(process_server, make):
    _, port = process_server
    connection = long_stream(port, make)
    make.wait_for(lambda: counted(make, port, 'openferret_pictures_total{cache="miss"}') == 1, 60)
    connection.close()
    make.wait_for(lambda: counted(make, port, "openferret_cancelled_total") == 1, 60)
    assert counted(make, port, "openferret_tokens_total") == 0


@pytest.mark.slow
def test_sigterm_answers_what_was_begun_and_then_ends(process_server, make):
    process, port = process_server
    connection = long_stream(port, make, 200)
    make.wait_for(lambda: counted(make, port, 'openferret_pictures_total{cache="miss"}') == 1, 60)
    process.send_signal(signal.SIGTERM)
    assert b"event: answer" in all_of(connection)
    process.wait(60)
    with pytest.raises(OSError, match="refused"):
        make.get(port, "/health/live")


@pytest.mark.slow
def test_a_second_sigterm_ends_it_at_once(process_server, make):
    process, port = process_server
    connection = long_stream(port, make)
    make.wait_for(lambda: counted(make, port, 'openferret_pictures_total{cache="miss"}') == 1, 60)
    process.send_signal(signal.SIGTERM)
    make.wait_for(lambda: refuses(port), 60)  # two at a time would be one
    process.send_signal(signal.SIGTERM)
    assert b"event: answer" not in all_of(connection)
    process.wait(60)


@pytest.mark.slow
def test_a_head_that_does_not_end_is_not_waited_for(process_server, make):
    _, port = process_server
    begun = time.monotonic()
    slow = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(3)]
    slow[1].sendall(b"GET /health/live HT")
    slow[2].sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert slow[2].recv(65536).startswith(b"HTTP/1.1 200")
    slow[2].sendall(b"GET /again")  # a second head on a connection that is kept
    for one in slow:
        with one:
            while one.recv(65536):
                pass
    assert 5 < time.monotonic() - begun < 100
    assert make.get(port, "/health/live")[0] == 200
