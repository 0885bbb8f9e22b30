"""Pictures by address: off unless hosts are named, https only, public addresses only, no redirects."""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from openferret.serve.errors import ServeError

_CHUNK = 65536
# The whole of a URL's alphabet but "@" and "\", which parsers disagree about.
_PLAIN = re.compile(
    r"https://[a-z0-9.-]+(?::443)?(?:/[A-Za-z0-9._~!$&'()*+,;=:/%-]*)?(?:\?[^\s\\@#]*)?", re.ASCII
)


def resolve(host: str) -> list[str]:
    """Addresses of a host, as the system resolves it."""
    found = socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def connect(address: str, host: str, seconds: float) -> socket.socket:
    """An encrypted connection to an address that proves to be the host."""
    plain = socket.create_connection((address, 443), timeout=seconds)
    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)


@dataclass(frozen=True)
class Fetcher:
    """Fetches pictures from hosts that the server's owner has named.

    Attributes:
        hosts: exact names, lower case; none turns fetching off.
        most: bytes of a picture.
        seconds: for all of it.
        resolve: host -> addresses.
        connect: address, host and seconds -> connection.
    """

    hosts: Sequence[str] = ()
    most: int = 16_000_000
    seconds: float = 10.0
    resolve: Callable[[str], list[str]] = field(default=resolve, repr=False)
    connect: Callable[[str, str, float], socket.socket] = field(default=connect, repr=False)

    def get(self, url: str) -> bytes:
        """The bytes at an address.

        The host is resolved once, and the connection goes to the address that was looked at: a name that
        changes in between leads nowhere else.

        Raises:
            ServeError: 422 for an address that is not allowed or does not deliver, 413 for too much.
        """
        host, path = self._allowed(url)
        ends = time.monotonic() + self.seconds
        try:
            address = self._public_address(host)
            connection = http.client.HTTPSConnection(host, timeout=self.seconds)
            with self.connect(address, host, self.seconds) as opened, _shut_at(opened, ends):
                connection.sock = opened
                with closing(_ask(connection, path)) as reply:
                    return self._read(opened, reply, ends)
        except (OSError, http.client.HTTPException, ValueError):
            raise _failed() from None

    def _allowed(self, url: str) -> tuple[str, str]:
        if not self.hosts:
            raise ServeError(
                422, "url_not_allowed", "this server fetches no pictures: send the picture itself"
            )
        if not _PLAIN.fullmatch(url):
            raise ServeError(422, "url_not_allowed", "only plain https addresses are fetched")
        parts = urlsplit(url)
        host = parts.hostname or ""
        if host not in self.hosts:
            raise ServeError(422, "url_not_allowed", "pictures are not fetched from this host")
        return host, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def _public_address(self, host: str) -> str:
        addresses = self.resolve(host)
        if not addresses or not all(is_public(one) for one in addresses):
            raise ServeError(422, "url_not_allowed", "the host is not on the public network")
        return addresses[0]

    def _read(self, opened: socket.socket, reply: http.client.HTTPResponse, ends: float) -> bytes:
        if reply.status != 200 or reply.getheader("Content-Encoding", "identity") != "identity":
            raise _failed()
        raw = bytearray()
        while True:
            left = ends - time.monotonic()
            if left <= 0:
                raise _failed()
            opened.settimeout(left)
            chunk = reply.read1(_CHUNK)
            if not chunk:
                if reply.length or time.monotonic() >= ends:
                    raise _failed()
                return bytes(raw)
            raw += chunk
            if len(raw) > self.most:
                raise ServeError(413, "picture_too_large", "the picture at that address is too large")


def is_public(address: str) -> bool:
    """Whether an IP address is of the public network, whatever it is wrapped in.

    >>> [is_public(one) for one in ("8.8.8.8", "127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe")]
    [True, False, False, False]
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if inner is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None and not is_public(str(inner)):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


@contextmanager
def _shut_at(opened: socket.socket, ends: float) -> Iterator[None]:
    """Ends a connection's reads when the time is up.

    A time limit of the socket is one of each read, and a head, or the sizes of chunks, may come byte by byte.
    """

    def shut() -> None:
        with suppress(OSError):
            socket.socket.shutdown(opened, socket.SHUT_RDWR)  # not TLS's own, which is not for another thread

    timer = threading.Timer(max(0.0, ends - time.monotonic()), shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _ask(connection: http.client.HTTPSConnection, path: str) -> http.client.HTTPResponse:
    headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "openferret"}
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def _failed() -> ServeError:
    return ServeError(422, "url_failed", "the picture could not be fetched from its address")
