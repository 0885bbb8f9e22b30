"""How many parts a picture's file has, counted before a decoder walks through them one by one.

A file of 16 MB has room for millions of empty chunks, or for thousands of scans that each go over every pixel.
"""

from __future__ import annotations

import struct

from openferret.serve.errors import ServeError

PNG_CHUNKS = 20_000
JPEG_SEGMENTS = 1_000
JPEG_JUNK = 4_096  # bytes between segments
JPEG_SCANS = 40  # of a progressive picture; encoders write about ten

_ALONE = frozenset([0x01, *range(0xD0, 0xDA)])  # markers without a length
_SCAN = 0xDA


def check_structure(raw: bytes, form: str) -> None:
    """Refuses a file of too many parts: ServeError 422.

    Args:
        raw: the file.
        form: "PNG", "JPEG" or "WEBP".

    >>> check_structure(bytes.fromhex("89504e470d0a1a0a"), "PNG")
    """
    if form == "PNG":
        _check_png(raw)
    elif form == "JPEG":
        _check_jpeg(raw)


def _check_png(raw: bytes) -> None:
    place = 8
    for _ in range(PNG_CHUNKS):
        if place + 8 > len(raw):
            return
        place += 12 + int(struct.unpack_from(">I", raw, place)[0])
    raise _too_many()


def _check_jpeg(raw: bytes) -> None:
    if raw.count(bytes([0xFF, _SCAN])) > JPEG_SCANS:
        raise _too_many()
    place = junk = 0
    for _ in range(JPEG_SEGMENTS):
        found = raw.find(b"\xff", place, place + JPEG_JUNK)
        if found < 0:
            break
        marker = found + 1
        while marker < len(raw) and raw[marker] == 0xFF and junk <= JPEG_JUNK:
            marker, junk = marker + 1, junk + 1
        junk += found - place
        if junk > JPEG_JUNK:
            break
        if marker >= len(raw) or raw[marker] == _SCAN:
            return
        place = marker + 1
        if raw[marker] not in _ALONE and raw[marker]:
            if place + 2 > len(raw):
                return
            place += max(2, int(struct.unpack_from(">H", raw, place)[0]))
        if place >= len(raw):
            return
    raise _too_many()


def _too_many() -> ServeError:
    return ServeError(422, "damaged_picture", "the picture's file has more parts than a picture needs")
