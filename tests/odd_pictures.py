"""Odd files under a picture's name: those that are pictures, and those that are not, with what is said of them."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 64, 48
SCENE = Image.fromarray(np.random.default_rng(3).integers(0, 255, (6, 8, 3), np.uint8)).resize(
    (WIDTH, HEIGHT), Image.Resampling.BICUBIC
)


def encode(image, kind, **options):
    """The bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_chunk(kind, content):
    """A part of a PNG."""
    sum_of_it = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + sum_of_it


def with_chunks(*chunks):
    """The scene as PNG with further parts behind its header."""
    plain = encode(SCENE, "PNG")
    return plain[:33] + b"".join(png_chunk(*one) for one in chunks) + plain[33:]


def deep_png():
    """The scene with 16 bits a channel."""
    rows = b"".join(b"\0" + row.tobytes() for row in np.asarray(SCENE).astype(">u2") * 257)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def deep_tiff():
    """The same, as TIFF; Pillow reads such files and does not write them."""
    data = (np.asarray(SCENE).astype("<u2") * 257).tobytes()
    bits_at = 8 + 2 + 12 * 9 + 4
    entries = [(256, 4, 1, WIDTH), (257, 4, 1, HEIGHT), (258, 3, 3, bits_at), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, bits_at + 6), (277, 3, 1, 3), (278, 4, 1, HEIGHT), (279, 4, 1, len(data))]
    directory = b"".join(
        struct.pack("<HHII", *one) for one in entries
    )  # a short stands first in its four bytes
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return head + directory + struct.pack("<IHHH", 0, 16, 16, 16) + data


def turned():
    """An EXIF orientation of a camera that was held upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def usable():
    """Name -> content, size of the upright picture, and whether it looks like the scene."""
    grey = Image.fromarray(np.asarray(SCENE.convert("L")).astype(np.uint16) * 257)
    frames = {"save_all": True, "append_images": [SCENE.rotate(180)]}
    size, palette = (WIDTH, HEIGHT), SCENE.quantize(16)
    return {
        "cmyk.jpg": (encode(SCENE.convert("CMYK"), "JPEG", quality=95), size, True),
        "deep.png": (deep_png(), size, True),
        "deep.tif": (deep_tiff(), size, True),
        "grey.png": (encode(grey, "PNG"), size, False),
        "grey.tif": (encode(grey, "TIFF"), size, False),
        "lzw.tif": (encode(SCENE, "TIFF", compression="tiff_lzw"), size, True),
        "animated.gif": (encode(SCENE, "GIF", **frames), size, True),
        "animated.webp": (encode(SCENE, "WEBP", quality=95, **frames), size, True),
        "sideways.jpg": (encode(SCENE, "JPEG", exif=turned()), (HEIGHT, WIDTH), False),
        "wordy.png": (with_chunks((b"tEXt", b"Comment\0" + b"a" * 2_000_000)), size, True),
        "palette.png": (encode(palette, "PNG", transparency=0), size, False),
        "veils.png": (encode(palette, "PNG", transparency=bytes(range(0, 160, 10))), size, False),
        "dot.png": (encode(SCENE.resize((1, 1)), "PNG"), (1, 1), False),
        "line.png": (encode(SCENE.resize((1, 20_000)), "PNG"), (1, 20_000), False),
        "horizon.jpg": (encode(SCENE.resize((20_000, 1)), "JPEG"), (20_000, 1), False),
    }


def refused():
    """Name -> content, and what is said of it."""
    bomb, small = (zlib.compress(b"a" * size, 9) for size in (64 << 20, 900 << 10))
    unpacks, cut = "unpacks to megabytes", "damaged or cut off"
    whole = {kind: encode(SCENE, kind) for kind in ("JPEG", "PNG")}
    return {
        "ztxt.png": (with_chunks((b"zTXt", b"Comment\0\0" + bomb)), unpacks),
        "itxt.png": (with_chunks((b"iTXt", b"Comment\0\1\0\0\0" + bomb)), unpacks),
        "profile.png": (with_chunks((b"iCCP", b"sRGB\0\0" + bomb)), unpacks),
        "many.png": (with_chunks(*[(b"zTXt", b"%d\0\0" % number + small) for number in range(99)]), unpacks),
        "page.jpg": (b"\n<!DOCTYPE html>\n<html><body>Not found</body></html>\n", "is a web page"),
        "xhtml.png": (b"<html><head><title>404</title></head></html>", "is a web page"),
        "cut.jpg": (whole["JPEG"][:700], cut),
        "cut.png": (whole["PNG"][: len(whole["PNG"]) // 2], cut),
        "start.png": (whole["PNG"][:20], cut),
        "words.jpg": (b"Not found", "is not a picture"),
    }
