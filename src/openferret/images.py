"""Pictures of any origin become upright RGB, and are checked before they are decoded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from openferret.checks import shorten
from openferret.decoding import MAX_PIXELS, check_size, one_line_damage, read_picture
from openferret.errors import InputError

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".jpx"}
    | {".heic", ".heif"}  # of phones: none is read, but none of a folder is passed over in silence either
)


def load_image(
    source: str | Path | bytes | Image.Image | np.ndarray[Any, Any], *, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Read a picture as upright 8-bit RGB.

    EXIF orientation is applied, transparency is laid over white, 16-bit values are scaled (not clipped), and
    of an animation the first frame is taken. Regions and answers are in pixels of the picture returned here.

    Args:
        source: A path, the bytes of a file, a PIL picture, or an array `[height, width]` or
            `[height, width, 1..4]` (grey, grey + alpha, RGB, RGBA) of bool, integers 0..255, uint16 0..65535
            or floats 0..1.
        max_pixels: Larger pictures are refused by their header, before they are decoded.

    Returns:
        A PIL picture of mode RGB.

    Raises:
        InputError: The source is missing, empty, damaged, too large or not a picture.

    Example:
        >>> load_image(np.zeros((40, 60), np.uint8)).size
        (60, 40)
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if not isinstance(source, str | Path | bytes | bytearray | memoryview | Image.Image):
        raise InputError(
            f"a picture is a path, bytes, a PIL picture or a NumPy array, not {type(source).__name__}"
        )
    name = repr(str(source)) if isinstance(source, str | Path) else "the picture"
    if isinstance(source, str | Path) and (address := _web_address(source)):
        raise InputError(f"{shorten(address)!r} is a web address: download the picture and give its path")
    upright = read_picture(source, name, max_pixels)
    with one_line_damage(name):
        return _to_rgb(upright)


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Expand folders to the pictures directly in them, sorted by name; files stay as they were given.

    Files are not opened: a missing one, or a link to one, is for `load_image` to report. A path named twice is
    kept once.

    Raises:
        InputError: No paths, an empty one, or a folder that holds no picture or cannot be listed.

    Example:
        >>> [path.name for path in find_images(["cat.jpg", "cat.jpg"])]
        ['cat.jpg']
    """
    found: dict[Path, None] = {}
    for given in paths:
        if given == "":  # an unset variable of the shell, which Path would take for the current folder
            raise InputError("a path is empty: give a picture or a folder")
        path = Path(given)
        try:
            folder = path.is_dir()
            inside = sorted(file for file in path.iterdir() if _is_picture(file)) if folder else [path]
        except (OSError, ValueError) as error:
            raise InputError(f"{str(path)!r} cannot be read: {error}") from error
        if not inside:
            raise InputError(f"the folder {str(path)!r} holds no pictures")
        found.update(dict.fromkeys(inside))
    if not found:
        raise InputError("no pictures: give at least one picture or a folder")
    return list(found)


def _web_address(source: str | Path) -> str | None:
    """The address that was given in place of a path; a Path keeps one slash of its two."""
    address = re.match(r"(https?):/+(?=.)", str(source), re.IGNORECASE)
    return address and f"{address[1]}://{str(source)[address.end() :]}"


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and not file.is_dir()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        rgb = Image.fromarray(_deep_to_bytes(np.asarray(image))).convert("RGB")
    elif image.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        rgb = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB") or image.convert("RGB")
    elif image.has_transparency_data or image.mode == "La":
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        rgb = Image.new("RGB", image.size, "white")
        rgb.paste(rgba, mask=rgba.getchannel("A"))
    else:
        rgb = image.convert("RGB")
    rgb.info.clear()  # so that nobody who reads the metadata turns the picture a second time
    return rgb


def _deep_to_bytes(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Scale 16-bit, 32-bit or float grey `[h, w]` to uint8 by the range its type or its values say."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        top = max(float(values.max()), 0.0)
        full = next((limit for limit in (1.0, 255.0, 65535.0) if top <= limit), top)
    else:
        full = float(max(65535, int(values.max())))
    return np.asarray(np.clip(values * (255.0 / full) + 0.5, 0, 255), np.uint8)


def _from_array(array: np.ndarray[Any, Any], max_pixels: int) -> Image.Image:
    if array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4) and array.shape[0] in (1, 3, 4):
        raise InputError(f"the array {array.shape} has its channels first: give [height, width, channels]")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise InputError(f"an array picture is [height, width] or [height, width, 1..4], not {array.shape}")
    check_size(array.shape[1], array.shape[0], "the array", max_pixels)
    pixels = _array_to_bytes(array)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return _to_rgb(Image.fromarray(np.ascontiguousarray(pixels)))


def _array_to_bytes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        return array
    if kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if kind == "u" and array.dtype.itemsize == 2:  # in either byte order
        return _deep_to_bytes(array)
    if kind not in "iuf":
        raise InputError(f"an array picture holds numbers, not {array.dtype}")
    if not np.isfinite(array).all():
        raise InputError("the array holds NaN or infinite values: give finite ones")
    limit = 1 if kind == "f" else 255
    if array.min() < 0 or array.max() > limit:
        raise InputError(
            f"the array's {array.dtype} values reach {array.min()}..{array.max()}: "
            "give floats of 0..1 or integers of 0..255"
        )
    return np.asarray(array * (255.0 if kind == "f" else 1) + (0.5 if kind == "f" else 0), np.uint8)
