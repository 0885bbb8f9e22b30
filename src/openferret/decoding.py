"""Pictures and masks that come from strangers: known formats only, size checked before anything is decoded."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile

from .errors import InputError

MAX_PIXELS = 200_000_000

# Only these: Pillow hands some formats to other programs (EPS).
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")

_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis")  # brands; "mif1" may be AVIF

# What Pillow's decoders raise on damaged files; MemoryError is a header that lies about its size.
_DAMAGED = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, MemoryError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)

# EXIF orientation -> the turn that puts the picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({5, 6, 7, 8})  # width and height are swapped
_ORIENTED = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")  # where Pillow finds an orientation


def read_picture(
    source: str | Path | bytes | bytearray | memoryview | Image.Image,
    name: str,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Decode a picture in its own mode, upright by its EXIF orientation; the first frame of an animation.

    Args:
        source: A path, the bytes of a file, or a PIL picture.
        name: What messages call it, such as "'cat.png'" or "the mask".
        max_pixels: Larger pictures are refused by their header, before they are decoded.

    Raises:
        InputError: Missing, empty, damaged, too large or not a picture.

    Example:
        >>> read_picture(Image.new("L", (3, 2)), "the picture").size
        (3, 2)
    """
    if isinstance(source, Image.Image):
        return _decode(source, name, max_pixels)
    if not isinstance(source, str | Path):
        return _read(io.BytesIO(bytes(source)), name, max_pixels)  # also of a view with gaps
    try:
        path = Path(source)
        if path.is_dir() or source == "":
            raise InputError(f"{name} is a folder: give a picture")
        if not path.exists():
            raise InputError(f"{name} does not exist: give the path of a picture")
        if not path.is_file():
            raise InputError(f"{name} is not a regular file: give the path of a picture")
        with path.open("rb") as stream:
            return _read(stream, name, max_pixels)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def upright_size(path: Path, name: str, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height in pixels of an upright picture, from its header.

    The EXIF of a PNG may come last: all of it is read.

    Raises:
        InputError: It cannot be read, is too large or not a picture.
    """
    with one_line_damage(name), path.open("rb") as stream:
        image = _read_header(stream, name)
        width, height = image.size
        check_size(width, height, name, max_pixels)
        return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


def orientation(path: Path) -> int:
    """EXIF orientation of a picture, 1 to 8; 1 (upright) where it says nothing. InputError if it is no picture."""
    with one_line_damage(path.name), path.open("rb") as stream:
        return _orientation(_read_header(stream, path.name))


def check_size(width: int, height: int, name: str, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse a picture without pixels, or with too many: InputError."""
    if width < 1 or height < 1:
        raise InputError(f"{name} has no pixels ({width} x {height})")
    if width * height > max_pixels:
        raise InputError(
            f"{name} is {width} x {height}, {width * height / 1e6:.0f} megapixels: "
            f"at most {max_pixels / 1e6:.0f} are read; make it smaller"
        )


@contextmanager
def one_line_damage(name: str) -> Iterator[None]:
    """Whatever Pillow says of a damaged picture, in one line: InputError, and no warnings beside it."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata in several lines; such a picture is read all the same.
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except _DAMAGED as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: BaseException) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    if "MAX_TEXT" in reason:  # Pillow names its own limits of a PNG's compressed text and colour profile
        return InputError(
            f"{name} holds text or a colour profile that unpacks to megabytes: save it without them"
        )
    return InputError(f"{name} is damaged or cut off ({reason}): get a whole copy")


def _read(stream: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = _read_header(stream, name)
    return _decode(opened, name, max_pixels)


def _read_header(stream: BinaryIO, name: str) -> ImageFile.ImageFile:
    # Image.open refuses above its own global limit; asking the plugins directly leaves the limit to us.
    Image.init()
    start = stream.read(64)
    if not start:
        raise InputError(f"{name} is empty: give a picture")
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):  # what many a download is
        raise InputError(f"{name} is a web page, not a picture: download the picture itself")
    if start[4:8] == b"ftyp" and start[8:12] in _HEIC:
        raise InputError(f"{name} is a HEIC picture, which is not read: save it as JPEG or PNG")
    damage: InputError | None = None
    for key in _FORMATS:
        factory, accept = Image.OPEN.get(key, (None, None))
        if factory is None or (accept is not None and accept(start) is not True):
            continue
        stream.seek(0)
        try:
            return factory(stream, "")
        except Image.DecompressionBombError as error:  # some plugins decode as they open, and look themselves
            raise InputError(f"{name} has too many pixels to be read; make it smaller") from error
        except _DAMAGED as error:
            damage = damage or _damaged(name, error)
    raise damage or InputError(
        f"{name} is not a picture that can be read, or is cut off: "
        "give a whole JPEG, PNG, WebP, GIF, BMP or TIFF"
    )


def _decode(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    check_size(*image.size, name, max_pixels)
    with one_line_damage(name):
        image.load()
        check_size(*image.size, name, max_pixels)
        turn = _TURNS.get(_orientation(image))
        if turn is None:
            return image
        upright = image.transpose(turn)
        for place in _ORIENTED:  # else whoever reads the picture again would turn it again
            upright.info.pop(place, None)
        return upright


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except _DAMAGED:
        return 1  # EXIF that cannot be read says nothing: the picture is taken as it lies
