"""Masks: filled shapes, PNG files, alpha channels and COCO run lengths as boolean arrays `[rows, columns]`.

Plain geometry on arrays; what a person pointed at is in `regions`. Shapes are in the units of the grid that
they fill (x right, y down, continuous): cell `[j, i]` covers `i <= x < i + 1`, `j <= y < j + 1`, and belongs
to a shape that holds its centre `(i + 0.5, j + 0.5)`. So the box 10..20 fills the columns 10 to 19.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .decoding import MAX_PIXELS, read_picture
from .errors import InputError
from .runs import Runs

BoolArray: TypeAlias = NDArray[np.bool_]
FloatArray: TypeAlias = NDArray[np.float64]

_MAX_CROSSINGS = 1 << 22  # of polygon edges and row centres held at once: some 200 MB of temporaries
_LONGEST_RUN_CODE = 7  # bytes; 35 bits hold any run of a mask of MAX_PIXELS


def fill_box(x1: float, y1: float, x2: float, y2: float, columns: int, rows: int) -> BoolArray:
    """Cells whose centre lies in `x1 <= x < x2`, `y1 <= y < y2`; bool `[rows, columns]`.

    >>> int(fill_box(10, 10, 20, 30, 120, 80).sum())
    200
    """
    x, y = _centres(columns, rows)
    return ((y >= y1) & (y < y2))[:, None] & ((x >= x1) & (x < x2))[None, :]


def fill_ellipse(x: float, y: float, radius_x: float, radius_y: float, columns: int, rows: int) -> BoolArray:
    """Cells whose centre lies in the ellipse round (x, y); bool `[rows, columns]`.

    >>> fill_ellipse(1.5, 1.5, 1, 1, 3, 3).astype(int).tolist()
    [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    """
    across, down = _centres(columns, rows)
    squares: FloatArray = ((across - x) / radius_x)[None, :] ** 2 + ((down - y) / radius_y)[:, None] ** 2
    return squares <= 1


def fill_polygon(points: FloatArray, columns: int, rows: int) -> BoolArray:
    """Cells whose centre lies in the polygon by the even-odd rule; bool `[rows, columns]`.

    Exact for any number of vertices, also outside the grid. Only a tangle whose edges cross row centres more
    than 4 million times is filled on a coarser grid, to bound memory and time.

    Args:
        points: [N, 2] vertices (x, y) in cells; the last joins the first.
        columns: of the grid.
        rows: of the grid.

    >>> square = np.array([[1.0, 1], [3, 1], [3, 3], [1, 3]])
    >>> fill_polygon(square, 4, 4).astype(int).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    x, y = points[:, 0], points[:, 1]
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    # An edge crosses the row centres j + 0.5 in its half-open range, so a vertex of two edges counts once.
    first = np.clip(np.ceil(np.minimum(y, next_y) - 0.5), 0, rows).astype(np.int64)
    count = np.clip(np.ceil(np.maximum(y, next_y) - 0.5), 0, rows).astype(np.int64) - first
    total = int(count.sum())
    if total > _MAX_CROSSINGS:
        coarse = fill_polygon(points / 2, (columns + 1) // 2, (rows + 1) // 2)
        return coarse.repeat(2, axis=0).repeat(2, axis=1)[:rows, :columns]
    edge = np.repeat(np.arange(len(points)), count)
    row = first[edge] + np.arange(total) - (np.cumsum(count) - count)[edge]
    share = (row + 0.5 - y[edge]) / (next_y - y)[edge]
    crossing = x[edge] + share * (next_x - x)[edge]
    column = np.clip(np.ceil(crossing - 0.5), 0, columns).astype(np.int64)
    toggles = np.bincount(row * (columns + 1) + column, minlength=rows * (columns + 1))
    # A cell is inside where the number of crossings at its left is odd.
    inside: BoolArray = np.cumsum(toggles.reshape(rows, columns + 1), axis=1)[:, :columns] % 2 == 1
    return inside


def fill_stroke(points: FloatArray, radius_x: float, radius_y: float, columns: int, rows: int) -> BoolArray:
    """Cells within an elliptic brush drawn along a line; bool `[rows, columns]`.

    The cost does not grow with vertices times brush: a thin line is drawn first and then widened.

    Args:
        points: [N, 2] vertices (x, y) in cells, in the grid or on its border; one vertex is a dot.
        radius_x: half width of the brush in cells.
        radius_y: half height of the brush in cells.
        columns: of the grid.
        rows: of the grid.

    >>> fill_stroke(np.array([[0.5, 0.5], [2.5, 0.5]]), 0.5, 0.5, 4, 2).astype(int).tolist()
    [[1, 1, 1, 0], [0, 0, 0, 0]]
    """
    cells = np.clip(np.floor(points), 0, (columns - 1, rows - 1)).astype(np.int64)
    moved = np.ones(len(cells), dtype=bool)
    moved[1:] = (cells[1:] != cells[:-1]).any(axis=1)
    cells = cells[moved]
    thin = Image.new("L", (columns, rows))
    ImageDraw.Draw(thin).line(cells.ravel().tolist(), fill=1)
    line = np.array(thin) > 0
    line[cells[:, 1], cells[:, 0]] = True
    return _widen(line, radius_x, radius_y)


def _widen(line: BoolArray, radius_x: float, radius_y: float) -> BoolArray:
    """Dilates by an ellipse: the way to the nearest set cell in each column, then a test per offset."""
    rows, columns = line.shape
    index = np.arange(rows, dtype=np.int32)[:, None]
    far = np.int32(4 * rows)
    above = np.maximum.accumulate(np.where(line, index, -far), axis=0)
    below = np.minimum.accumulate(np.where(line, index, far)[::-1], axis=0)[::-1]
    gap = np.minimum(index - above, below - index)
    wide = np.zeros_like(line)
    # The margin keeps cells exactly on the brush's rim inside, whichever way a root or a scale was rounded.
    for offset in range(min(int(radius_x + 1e-9), columns - 1) + 1):
        reach = radius_y * float(np.sqrt(max(0.0, 1 - (offset / radius_x) ** 2))) + 1e-9
        near = gap <= min(reach, rows)
        wide[:, offset:] |= near[:, : columns - offset]
        wide[:, : columns - offset] |= near[:, offset:]
    return wide


def clip_polygon(points: FloatArray, width: float, height: float) -> FloatArray:
    """The part of a polygon in `0..width`, `0..height` (Sutherland and Hodgman): `[M, 2]`, M may be 0.

    >>> clip_polygon(np.array([[-2.0, 0], [2, 0], [2, 4], [-2, 4]]), 4, 4).tolist()
    [[0.0, 0.0], [2.0, 0.0], [2.0, 4.0], [0.0, 4.0]]
    """
    for axis, limit, sign in ((0, 0.0, 1.0), (0, width, -1.0), (1, 0.0, 1.0), (1, height, -1.0)):
        depth = sign * (points[:, axis] - limit)
        following, next_depth = np.roll(points, -1, axis=0), np.roll(depth, -1)
        crosses = (depth >= 0) != (next_depth >= 0)
        share = np.divide(depth, depth - next_depth, out=np.zeros_like(depth), where=crosses)
        cut = points + share[:, None] * (following - points)
        cut[:, axis] = limit
        points = np.stack([points, cut], axis=1)[np.stack([depth >= 0, crosses], axis=1)]
    return points


def shrink_mask(mask: BoolArray, columns: int, rows: int) -> BoolArray:
    """A mask on a coarser grid: cells at least half covered, or the fullest ones if there are none.

    >>> shrink_mask(np.eye(4, dtype=bool), 2, 2).astype(int).tolist()
    [[1, 0], [0, 1]]
    """
    height, width = mask.shape
    if (height, width) == (rows, columns):
        return mask
    return _half_covered(_count_cells(mask, columns, rows), width, height)


def shrink_runs(runs: Runs, columns: int, rows: int) -> BoolArray:
    """As `shrink_mask`, of a mask whose pixels are never made; the work is that of its runs.

    >>> shrink_runs(Runs.of(np.eye(4, dtype=bool)), 2, 2).astype(int).tolist()
    [[1, 0], [0, 1]]
    """
    return _half_covered(runs.coverage(columns, rows), runs.width, runs.height)


def _count_cells(mask: BoolArray, columns: int, rows: int) -> NDArray[Any]:
    """Pixels inside each cell of a coarser grid, memory walked in its own order."""
    if mask.flags.f_contiguous and (not mask.flags.c_contiguous or mask.shape[1] == 1):
        return _count_cells(mask.T, rows, columns).T
    height, width = mask.shape
    counted: NDArray[Any] = mask.view(np.uint8)
    for axis, cells, size in ((1, columns, width), (0, rows, height)):
        if cells != size:
            counted = np.add.reduceat(counted, np.arange(cells) * size // cells, axis=axis, dtype=np.int32)
    return counted


def _half_covered(covered: NDArray[Any], width: int, height: int) -> BoolArray:
    rows, columns = covered.shape
    tops, lefts = np.arange(rows + 1) * height // rows, np.arange(columns + 1) * width // columns
    halves: BoolArray = 2 * covered >= np.outer(np.diff(tops), np.diff(lefts))
    return halves if halves.any() else covered == covered.max()


def mask_from_png(source: str | Path | bytes | Image.Image) -> BoolArray:
    """Reads a mask picture: what is opaque if it has transparency, else what is not black.

    Args:
        source: path, bytes of a file, or a picture; EXIF orientation is applied, as to the picture itself.

    Returns:
        bool [height, width], in pixels of the mask file; it may be empty.

    Raises:
        InputError: no such file, not a picture, damaged, or more than 200 million pixels.

    >>> mask_from_png(Image.new("L", (3, 2), 255)).shape
    (2, 3)
    """
    name = f"the mask {str(source)!r}" if isinstance(source, str | Path) else "the mask"
    picture = read_picture(source, name)
    if picture.has_transparency_data:
        opaque = mask_from_alpha(picture.convert("RGBA"))
        if not opaque.all():
            return opaque
    if picture.mode not in {"1", "L", "I", "F", "I;16", "I;16B", "I;16L"}:
        picture = picture.convert("RGB")
    levels = np.asarray(picture).reshape(picture.height, picture.width, -1)
    marked: BoolArray = (levels != 0).any(axis=2)
    return marked


def mask_from_alpha(picture: Image.Image) -> BoolArray:
    """The pixels of a cut-out that are at least half opaque; bool `[height, width]`.

    Raises:
        InputError: the picture has no alpha channel.

    >>> mask_from_alpha(Image.new("RGBA", (1, 1), (0, 0, 0, 200))).tolist()
    [[True]]
    """
    if "A" not in picture.getbands():
        raise InputError(f"the picture has no alpha channel, its mode is {picture.mode}; give one with RGBA")
    half_opaque: BoolArray = np.asarray(picture.getchannel("A")) >= 128
    return half_opaque


def decode_rle(rle: Mapping[str, Any]) -> BoolArray:
    """A mask from COCO run lengths, compressed (`counts` is text) or not (`counts` is a list).

    Args:
        rle: `{"size": [height, width], "counts": ...}`; runs go down the columns and begin with background.

    Returns:
        bool [height, width]. Sizes and runs are checked before anything of that size is made.

    Raises:
        InputError: not of that form, more than 200 million pixels, or runs that do not fill the size.

    >>> decode_rle({"size": [2, 2], "counts": [1, 2, 1]}).astype(int).tolist()
    [[0, 1], [1, 0]]
    """
    return read_rle(rle).mask()


def read_rle(rle: Mapping[str, Any]) -> Runs:
    """As `decode_rle`, but no pixels are made.

    >>> read_rle({"size": [2, 2], "counts": [1, 2, 1]}).bounds()
    (0, 0, 2, 2)
    """
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError('a COCO RLE must be {"size": [height, width], "counts": ...}') from None
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        limit = f"between 1 and {MAX_PIXELS // 1_000_000} million pixels"
        raise InputError(f"the COCO RLE has the size {height} x {width}; it must have {limit}")
    runs = _unpack_runs(counts) if isinstance(counts, str | bytes) else _read_runs(counts)
    if (runs < 0).any() or (runs > height * width).any() or int(runs.sum()) != height * width:
        raise InputError(
            f"the runs of the COCO RLE must be 0 or more and fill its {height} x {width} pixels exactly"
        )
    return Runs.alternating(width, height, runs)


def _read_runs(counts: Any) -> NDArray[np.int64]:
    try:
        return np.array([operator.index(count) for count in counts], dtype=np.int64)
    except (TypeError, OverflowError):
        raise InputError("the counts of the COCO RLE must be text or a list of whole numbers") from None


def encode_rle(mask: BoolArray, compressed: bool = True) -> dict[str, Any]:
    """COCO run lengths of a mask, ready for JSON; the inverse of `decode_rle`.

    Args:
        mask: bool [height, width], at least one pixel.
        compressed: `counts` as COCO's text instead of a list of numbers.

    >>> encode_rle(np.array([[0, 1], [1, 0]], dtype=bool), compressed=False)
    {'size': [2, 2], 'counts': [1, 2, 1]}
    """
    height, width = mask.shape
    flat = mask.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(changes, prepend=0, append=flat.size)
    if flat[0]:
        runs = np.insert(runs, 0, 0)
    return {"size": [height, width], "counts": _pack_runs(runs) if compressed else runs.tolist()}


def _pack_runs(runs: NDArray[np.int64]) -> str:
    """COCO's text: runs, from the fourth on less the one two before, in groups of 5 bits, lowest first."""
    rest = runs.copy()
    rest[3:] -= runs[1:-2]
    groups, used = [], []
    more = np.ones(len(rest), dtype=bool)
    while more.any():
        used.append(more)
        group, rest = rest & 0x1F, rest >> 5
        # The last group's highest bit is the sign, so a value ends only where that bit already tells it.
        more = more & np.where(group & 0x10, rest != -1, rest != 0)
        groups.append(group + 48 + 0x20 * more)
    return bytes(np.stack(groups, axis=1)[np.stack(used, axis=1)].astype(np.uint8)).decode("ascii")


def _unpack_runs(text: str | bytes) -> NDArray[np.int64]:
    """The inverse of `_pack_runs`; InputError for text that is not of that form."""
    raw = text.encode("ascii", "replace") if isinstance(text, str) else text
    codes = np.frombuffer(raw, dtype=np.uint8).astype(np.int64) - 48
    last = (codes & 0x20) == 0
    if not codes.size or (codes < 0).any() or (codes > 63).any() or not last[-1]:
        raise InputError(
            "the counts of the COCO RLE are not COCO's compressed text; they are damaged or cut off"
        )
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST_RUN_CODE:
        raise InputError("the counts of the COCO RLE hold a run longer than any mask")
    place = np.arange(codes.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    values -= np.where(codes[ends] & 0x10, np.int64(1) << (5 * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _centres(columns: int, rows: int) -> tuple[FloatArray, FloatArray]:
    return np.arange(0.5, columns), np.arange(0.5, rows)
