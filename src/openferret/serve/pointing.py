"""Regions as clients write them -> regions, with masks held to the picture's size before they are unpacked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from openferret.errors import InputError
from openferret.masks import BoolArray, decode_rle, mask_from_png
from openferret.regions import Box, Mask, Point, Polygon, Region, Scribble
from openferret.serve.errors import ServeError
from openferret.serve.limits import Limits
from openferret.serve.pictures import header_size, picture_format, read_base64
from openferret.serve.schemas import BoxSpec, MaskSpec, PointSpec, PolygonSpec, RegionSpec, Rle


def mask_bytes(specs: Sequence[RegionSpec], size: tuple[int, int]) -> int:
    """Bytes that the masks among some regions of a picture take."""
    return sum(isinstance(spec, MaskSpec) for spec in specs) * size[0] * size[1]


def read_regions(specs: Sequence[RegionSpec], size: tuple[int, int], limits: Limits) -> list[Region]:
    """Regions in pixels of a picture.

    Args:
        specs: as the client wrote them.
        size: width and height of the picture in pixels.
        limits: pixels.

    Raises:
        ServeError: 422 for a region that cannot be used, which the message names by its number.
    """
    regions = []
    for number, spec in enumerate(specs):
        try:
            regions.append(_read_region(spec, size, limits))
        except InputError as error:
            raise ServeError(422, "invalid_region", f"region {number}: {error}") from None
    return regions


def _read_region(spec: RegionSpec, size: tuple[int, int], limits: Limits) -> Region:
    match spec:
        case PointSpec():
            return Point(spec.x, spec.y)
        case BoxSpec():
            return Box(spec.x1, spec.y1, spec.x2, spec.y2)
        case MaskSpec():
            if spec.rle is not None:
                return Mask(_unpack(spec.rle, size))
            return Mask(_read_png(read_base64(spec.png or "", "the mask"), size, limits))
        case PolygonSpec():
            return Polygon([(x, y) for x, y in spec.points])
    return Scribble([(x, y) for x, y in spec.points])


def _unpack(rle: Rle, size: tuple[int, int]) -> BoolArray:
    height, width = rle.size
    _check_size((width, height), size)
    form: dict[str, Any] = {"size": rle.size, "counts": rle.counts}
    return decode_rle(form)


def _read_png(raw: bytes, size: tuple[int, int], limits: Limits) -> BoolArray:
    if picture_format(raw) != "PNG":
        raise InputError("a mask is sent as a PNG")
    _check_size(header_size(raw, limits), size)
    try:
        # What the decoder says of a damaged file is not repeated.
        mask = mask_from_png(raw)
    except InputError:
        raise InputError("the mask's PNG is damaged or cut off") from None
    _check_size(Image.fromarray(mask).size, size)  # it may have been turned upright
    return mask


def _check_size(mask: tuple[int, int], picture: tuple[int, int]) -> None:
    if mask != picture:
        sizes = f"{mask[0]} x {mask[1]} pixels, the picture {picture[0]} x {picture[1]}"
        raise InputError(f"the mask is {sizes}; they must be equal")
