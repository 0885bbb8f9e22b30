"""Pictures that clients send: known formats, sized by their header, decoded once, kept for a while."""

from __future__ import annotations

import base64
import binascii
import io
import secrets
import time
import warnings
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import anyio
import anyio.to_thread
import numpy as np
from PIL import Image

from openferret.decoding import read_picture
from openferret.errors import InputError
from openferret.images import load_image
from openferret.masks import BoolArray, mask_from_alpha
from openferret.serve.caches import ByteCache
from openferret.serve.errors import ServeError
from openferret.serve.limits import Budget, Limits
from openferret.serve.structure import check_structure

_MOST_IDS = 4096
# Bytes a pixel while a picture is decoded: itself, with alpha, and turned upright.
_DECODING = 8
_HEADER_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError)


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of a client.

    Attributes:
        digest: SHA-256 of its file; the same file is read once, whoever sends it.
        image: upright RGB.
        alpha: bool [height, width], what is opaque; None for a picture that is opaque everywhere.
    """

    digest: str
    image: Image.Image
    alpha: BoolArray | None

    @property
    def held(self) -> int:
        """Bytes in memory."""
        pixels = self.image.width * self.image.height
        return 3 * pixels + (0 if self.alpha is None else pixels)


def picture_format(raw: bytes) -> str:
    """JPEG, PNG or WEBP by a file's first bytes; ServeError 415 for anything else.

    >>> picture_format(bytes.fromhex("89504e470d0a1a0a"))
    'PNG'
    """
    if raw.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if raw.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        return "WEBP"
    raise ServeError(415, "unsupported_picture", "the picture is not a JPEG, PNG or WebP file")


def header_size(raw: bytes, limits: Limits) -> tuple[int, int]:
    """Width and height in pixels by a file's header, not turned; nothing is decoded.

    Raises:
        ServeError: 415 for another format, 413 for too many pixels, 422 for a header that is damaged or endless.
    """
    form = picture_format(raw)
    check_structure(raw, form)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            width, height = Image.open(io.BytesIO(raw), formats=(form,)).size
    except Image.DecompressionBombError:
        raise _too_large(limits) from None
    except _HEADER_DAMAGE:
        raise _damaged() from None
    if width * height > limits.pixels:
        raise _too_large(limits)
    return width, height


def decode_picture(raw: bytes, digest: str, limits: Limits) -> Picture:
    """Decodes a picture whose header was found good.

    A picture that goes on below its transparent part is taken whole; a cut-out, with one colour below, is laid
    over white. `alpha` says what is opaque in both.

    Raises:
        ServeError: 422 for a picture that is damaged; what the decoder says of it is not repeated.
    """
    try:
        upright = read_picture(raw, "the picture", limits.pixels)
        if not upright.has_transparency_data:
            return Picture(digest, load_image(upright), None)
        rgba = upright.convert("RGBA")
        opaque = mask_from_alpha(rgba)
        if opaque.all() or not opaque.any():
            return Picture(digest, load_image(upright), None)
        below = np.asarray(rgba.convert("RGB"))[~opaque]
        whole = bool((below != below[0]).any())
        return Picture(digest, rgba.convert("RGB") if whole else load_image(upright), opaque)
    except InputError:
        raise _damaged() from None


def read_base64(text: str, what: str) -> bytes:
    r"""Bytes from base64, which many programs write in lines; ServeError 422 if it is none.

    >>> read_base64("YWJj\nZA==", "it")
    b'abcd'
    """
    try:
        return base64.b64decode(text.encode("ascii").translate(None, b" \t\r\n"), validate=True)
    except (binascii.Error, ValueError):
        raise ServeError(422, "invalid_base64", f"{what} is not base64") from None


def read_data_url(url: str) -> bytes:
    """The bytes of `data:image/...;base64,...`; ServeError 422 if it is no such address."""
    head, comma, body = url.partition(",")
    if not comma or not head.lower().startswith("data:image/") or not head.lower().endswith(";base64"):
        raise ServeError(422, "invalid_data_url", "a picture is written as data:image/png;base64,...")
    return read_base64(body, "the picture")


class PictureStore:
    """Decoded pictures by content, and names for those that clients want to ask again.

    Used on the event loop only; pictures are decoded in another thread, one at a time.

    Args:
        limits: pixels.
        budget: that pictures of requests in flight are taken from.
        size: bytes of pictures that are kept.
        seconds: after which an unused name is forgotten.
        clock: in seconds.
    """

    def __init__(
        self,
        limits: Limits,
        budget: Budget,
        size: int = 512_000_000,
        seconds: float = 1800.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.budget = budget
        self.seconds = seconds
        self._kept: ByteCache[Picture] = ByteCache(size)
        self._names: OrderedDict[str, tuple[str, float]] = OrderedDict()  # the longest unused first
        self._users: dict[str, int] = {}
        self._clock = clock
        self._one_at_a_time = anyio.CapacityLimiter(1)

    @asynccontextmanager
    async def decoded(self, raw: bytes) -> AsyncIterator[Picture]:
        """A picture from the bytes of a file; its memory is reserved until the context ends.

        Raises:
            ServeError: 413, 415 or 422 for a picture that cannot be used, 429 if there is no memory for it.
        """
        digest = await anyio.to_thread.run_sync(lambda: sha256(raw).hexdigest())
        picture = self._kept.get(digest)
        if picture is None:
            width, height = await anyio.to_thread.run_sync(header_size, raw, self.limits)
            with self.budget.hold(_DECODING * width * height):
                picture = await anyio.to_thread.run_sync(
                    partial(decode_picture, raw, digest, self.limits), limiter=self._one_at_a_time
                )
            self._kept.put(digest, picture, picture.held)
        async with self._used(picture):
            yield picture

    @asynccontextmanager
    async def named(self, name: str) -> AsyncIterator[Picture]:
        """A picture by its name, whose time begins anew; ServeError 404 if there is none, or none any more."""
        picture = self._find(name)
        async with self._used(picture):
            yield picture

    def name(self, picture: Picture) -> str:
        """A new name for a picture, which nobody can guess."""
        self._forget_old()
        if len(self._names) >= _MOST_IDS:
            self._names.popitem(last=False)
        name = f"img_{secrets.token_hex(16)}"
        self._names[name] = (picture.digest, self._clock() + self.seconds)
        return name

    def size_of(self, name: str) -> tuple[int, int]:
        """Width and height in pixels of a picture, whose time begins anew; ServeError 404 if there is none."""
        return self._find(name).image.size

    def drop(self, name: str) -> str | None:
        """Forgets a name; the digest of the picture if no other name has it. ServeError 404 if unknown."""
        digest = self._find(name).digest
        del self._names[name]
        if any(other == digest for other, _ in self._names.values()):
            return None
        self._kept.drop(digest)
        return digest

    def _find(self, name: str) -> Picture:
        self._forget_old()
        digest, _ = self._names.get(name, ("", 0.0))
        picture = self._kept.get(digest)
        if picture is None:
            self._names.pop(name, None)
            raise ServeError(404, "unknown_image", "there is no such picture, or no longer: send it again")
        self._names[name] = (digest, self._clock() + self.seconds)
        self._names.move_to_end(name)
        return picture

    def _forget_old(self) -> None:
        now = self._clock()
        while self._names and next(iter(self._names.values()))[1] < now:
            self._names.popitem(last=False)

    @asynccontextmanager
    async def _used(self, picture: Picture) -> AsyncIterator[None]:
        """Reserves a picture's memory once, however many requests use it."""
        if not self._users.get(picture.digest):
            self.budget.take(picture.held)
        self._users[picture.digest] = self._users.get(picture.digest, 0) + 1
        try:
            yield
        finally:
            self._users[picture.digest] -= 1
            if not self._users[picture.digest]:
                del self._users[picture.digest]
                self.budget.give(picture.held)


def _too_large(limits: Limits) -> ServeError:
    most = limits.pixels // 1_000_000
    return ServeError(413, "picture_too_large", f"the picture has more than {most} megapixels")


def _damaged() -> ServeError:
    return ServeError(422, "damaged_picture", "the picture is damaged or cut off: send a whole copy")
