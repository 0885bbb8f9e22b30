import socket
import threading
import time

import pytest

from openferret.serve.errors import ServeError
from openferret.serve.fetch import Fetcher, is_public

HOST = "pictures.example"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def fetcher(reply=OK, addresses=("93.184.216.34",), slow=0.0, **settings):
    """A fetcher whose connections lead to a thread that says `reply`; the addresses it went to are kept."""
    went = []

    def connect(address, host, seconds):
        went.append((address, host))
        ours, theirs = socket.socketpair()
        ours.settimeout(seconds)

        def answer():
            with theirs:
                try:
                    theirs.recv(4096)
                    for start in range(0, len(reply), 20 if slow else 10**6):
                        theirs.sendall(reply[start : start + (20 if slow else 10**6)])
                        time.sleep(slow)
                except OSError:
                    pass

        threading.Thread(target=answer, daemon=True).start()
        return ours

    made = Fetcher((HOST,), resolve=lambda host: list(addresses), connect=connect, **settings)
    return made, went


def refused(made, url=f"https://{HOST}/a.png"):
    with pytest.raises(ServeError) as error:
        made.get(url)
    return error.value.status_code, error.value.code


def test_it_is_off_by_default():
    assert refused(Fetcher()) == (422, "url_not_allowed")


def test_an_allowed_host_is_fetched_from_the_address_that_was_looked_at():
    made, went = fetcher()
    assert made.get(f"https://{HOST}/a.png?size=2") == b"hello"
    assert went == [("93.184.216.34", HOST)]


@pytest.mark.parametrize(
    "url",
    [
        f"http://{HOST}/a.png",
        f"https://sub.{HOST}/a.png",
        f"https://{HOST}.evil.example/a.png",
        f"https://{HOST}@evil.example/a.png",
        f"https://evil.example@{HOST}/a.png",
        f"https://evil.example\\@{HOST}/a.png",
        f"https:\\\\{HOST}/a.png",
        f"https://{HOST}:8443/a.png",
        f"https://{HOST}\t/a.png",
        f"https://{HOST}/a\r\nX: y",
        f"https://{HOST}/#@evil.example",
        f"https://{HOST}./a.png",
        "https://127.0.0.1/a.png",
        "https://0177.0.0.1/a.png",
        "https://2130706433/a.png",
        "https://[::1]/a.png",
        "file:///etc/passwd",
        "ftp://pictures.example/a",
        "https://\u0440ictures.example/a.png",
        "",
    ],
)
def test_no_other_address_is_fetched(url):
    made, went = fetcher()
    assert refused(made, url) == (422, "url_not_allowed")
    assert went == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
     "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1",
     "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1", "nonsense"],
)  # fmt: skip
def test_a_name_of_a_private_address_is_refused_even_beside_a_public_one(address):
    assert not is_public(address)
    made, went = fetcher(addresses=("93.184.216.34", address))
    assert refused(made) == (422, "url_not_allowed")
    assert went == []


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
        b"nonsense",
        b"",
    ],
)
def test_redirects_errors_and_lies_are_refused(reply):
    assert refused(fetcher(reply)[0]) == (422, "url_failed")


def test_too_much_is_refused_whatever_the_header_says():
    many = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000
    assert refused(fetcher(many, most=1000)[0]) == (413, "picture_too_large")


def test_a_slow_drip_ends_with_the_time():
    started = time.monotonic()
    drip = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000
    assert refused(fetcher(drip, slow=0.05, seconds=0.5)[0]) == (422, "url_failed")
    assert time.monotonic() - started < 10  # all of it would take 12


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;slow=",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 500,
    ],
)
def test_a_head_or_a_size_that_drips_ends_with_the_time_too(head):
    started = time.monotonic()
    assert refused(fetcher(head + b"x" * 5000, slow=0.05, seconds=0.5)[0]) == (422, "url_failed")
    assert time.monotonic() - started < 10
