"""Regions as clients write them -> regions, with masks held to the picture's size before they are unpacked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from openferret.errors import InputError
from openferret.masks import BoolArray, mask_from_png, read_rle
from openferret.regions import Box, Mask, Point, Polygon, Region, Scribble
from openferret.runs import Runs
from openferret.serve.errors import ServeError
from openferret.serve.limits import Limits
from openferret.serve.pictures import header_size, picture_format, read_base64
from openferret.serve.schemas import BoxSpec, MaskSpec, PointSpec, PolygonSpec, RegionSpec, Rle, ScribbleSpec

_BYTES_OF_RUN = 64  # while its text is taken apart; 16 later
_BYTES_OF_PIXEL = 6  # of a PNG: itself, and marked, and turned down the columns


def mask_bytes(specs: Sequence[RegionSpec], size: tuple[int, int]) -> int:
    """Bytes that the masks among some regions of a picture take while they are read, one after the other."""
    masks = [spec for spec in specs if isinstance(spec, MaskSpec)]
    runs = sum(len(spec.rle.counts) for spec in masks if spec.rle is not None)
    files = any(spec.png is not None for spec in masks)
    return _BYTES_OF_RUN * runs + (_BYTES_OF_PIXEL * size[0] * size[1] if files else 0)


def read_regions(specs: Sequence[RegionSpec], size: tuple[int, int], limits: Limits) -> list[Region]:
    """Regions in pixels of a picture. Masks become runs, whose cost is not that of their pixels.

    Args:
        specs: as the client wrote them.
        size: width and height of the picture in pixels.
        limits: pixels, request_vertices, mask_pixels, mask_runs.

    Raises:
        ServeError: 413 for too many vertices, runs, or pixels of masks, together; 422 for a region that cannot
            be used, which the message names by its number.
    """
    drawn = sum(len(spec.points) for spec in specs if isinstance(spec, PolygonSpec | ScribbleSpec))
    if drawn > limits.request_vertices:
        raise _too_large(f"the regions have more than {limits.request_vertices:,} vertices together")
    files = sum(isinstance(spec, MaskSpec) and spec.png is not None for spec in specs)
    if files > 1 and files * size[0] * size[1] > limits.mask_pixels:
        most = limits.mask_pixels // 1_000_000
        raise _too_large(f"the PNG masks hold more than {most} megapixels together: send them as rle")
    regions = []
    left = limits.mask_runs
    for number, spec in enumerate(specs):
        try:
            region = _read_region(spec, size, limits)
            if isinstance(region, Runs):
                left -= len(region)
                if left < 0:
                    raise _too_large(f"the masks have more than {limits.mask_runs:,} runs together")
                region = Mask.of_runs(region)
        except InputError as error:
            raise ServeError(422, "invalid_region", f"region {number}: {error}") from None
        regions.append(region)
    return regions


def _too_large(message: str) -> ServeError:
    return ServeError(413, "regions_too_large", message)


def _read_region(spec: RegionSpec, size: tuple[int, int], limits: Limits) -> Region | Runs:
    match spec:
        case PointSpec():
            return Point(spec.x, spec.y)
        case BoxSpec():
            return Box(spec.x1, spec.y1, spec.x2, spec.y2)
        case MaskSpec():
            if spec.rle is not None:
                return _unpack(spec.rle, size)
            return Runs.of(_read_png(spec.png or "", size, limits))
        case PolygonSpec():
            return Polygon([(x, y) for x, y in spec.points])
    return Scribble([(x, y) for x, y in spec.points])


def _unpack(rle: Rle, size: tuple[int, int]) -> Runs:
    height, width = rle.size
    _check_size((width, height), size)
    form: dict[str, Any] = {"size": rle.size, "counts": rle.counts}
    return read_rle(form)


# What is said of pictures would be taken for the picture itself, which is good.
_OF_MASKS = {
    "unsupported_picture": "a mask is sent as a PNG, in base64",
    "damaged_picture": "the mask's PNG is damaged or cut off",
    "picture_too_large": "the mask's PNG is larger than any picture may be",
}


def _read_png(text: str, size: tuple[int, int], limits: Limits) -> BoolArray:
    raw = read_base64(text, "the mask")
    try:
        if picture_format(raw) != "PNG":
            raise InputError(_OF_MASKS["unsupported_picture"])
        held = header_size(raw, limits)
    except ServeError as error:
        raise InputError(_OF_MASKS[error.code]) from None
    _check_size(held, size)
    try:
        # What the decoder says of a damaged file is not repeated.
        mask = mask_from_png(raw)
    except InputError:
        raise InputError(_OF_MASKS["damaged_picture"]) from None
    _check_size(Image.fromarray(mask).size, size)  # it may have been turned upright
    return mask


def _check_size(mask: tuple[int, int], picture: tuple[int, int]) -> None:
    if mask != picture:
        sizes = f"{mask[0]} x {mask[1]} pixels, the picture {picture[0]} x {picture[1]}"
        raise InputError(f"the mask is {sizes}; they must be equal")
