import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from openferret.decoding import MAX_PIXELS
from openferret.errors import InputError
from openferret.masks import (
    BoolArray,
    clip_polygon,
    decode_rle,
    encode_rle,
    fill_polygon,
    fill_stroke,
    mask_from_alpha,
    mask_from_png,
    shrink_mask,
)

masks = arrays.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))
vertices = arrays.arrays(
    float, st.tuples(st.integers(3, 8), st.just(2)), elements=st.floats(-20, 40, width=32)
)


def png(picture: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


COLUMNS, ROWS = 12, 9
CENTRES = np.stack(np.meshgrid(np.arange(0.5, COLUMNS), np.arange(0.5, ROWS)), axis=-1)


def inside_by_hand(points: np.ndarray[Any, Any], x: float, y: float) -> bool:
    inside = False
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if (y1 <= y) != (y2 <= y) and x1 + (y - y1) / (y2 - y1) * (x2 - x1) <= x:
            inside = not inside
    return inside


def off_the_outline(points: np.ndarray[Any, Any]) -> BoolArray:
    """Cells whose centre is not on an edge, where rounding decides."""
    starts = points[:, None, None]
    edges = np.roll(points, -1, axis=0)[:, None, None] - starts
    squares = np.maximum((edges**2).sum(-1), 1e-12)
    share = (((CENTRES - starts) * edges).sum(-1) / squares).clip(0, 1)
    distances = np.abs(CENTRES - starts - share[..., None] * edges).max(-1)
    off: BoolArray = (distances > 1e-4).all(axis=0)
    return off


@given(vertices)
def test_polygons_hold_the_cells_whose_centre_they_hold(points: np.ndarray[Any, Any]) -> None:
    mask = fill_polygon(points, COLUMNS, ROWS)
    expected = np.array([[inside_by_hand(points, x, y) for x, y in row] for row in CENTRES])
    assert not (mask != expected)[off_the_outline(points)].any()


@given(vertices)
def test_clipping_a_polygon_changes_nothing_inside(points: np.ndarray[Any, Any]) -> None:
    clipped = clip_polygon(points, COLUMNS, ROWS)
    assert ((clipped >= 0) & (clipped <= (COLUMNS, ROWS))).all()
    before = fill_polygon(points, COLUMNS, ROWS)
    after = fill_polygon(clipped, COLUMNS, ROWS) if len(clipped) else np.zeros_like(before)
    assert not (before != after)[off_the_outline(points)].any()


def test_a_tangle_is_bounded_in_work() -> None:
    points = np.random.default_rng(0).random((200_000, 2)) * 1000
    assert fill_polygon(points, 1000, 999).shape == (999, 1000)


def test_a_stroke_is_as_wide_as_its_brush_with_round_ends() -> None:
    mask = fill_stroke(np.array([[20.5, 20.5], [60.5, 20.5]]), 5, 5, 100, 40)
    assert mask[:, 40].sum() == 11
    assert mask[20].nonzero()[0].tolist() == list(range(15, 66))
    assert mask.sum() == pytest.approx(40 * 11 + 81, abs=1)


def test_a_huge_brush_covers_everything() -> None:
    assert fill_stroke(np.array([[0.0, 0.0]]), 1e6, 1e6, 50, 30).all()


def test_shrinking_keeps_area_and_never_loses_a_mask() -> None:
    mask = np.zeros((100, 300), dtype=bool)
    mask[20:80, 30:120] = True
    assert shrink_mask(mask, 30, 10).sum() == 6 * 9
    dot = np.zeros((100, 300), dtype=bool)
    dot[99, 150] = True
    assert np.argwhere(shrink_mask(dot, 30, 10)).tolist() == [[9, 15]]


def test_png_masks_of_every_kind(tmp_path: Path) -> None:
    shape = np.zeros((4, 6), dtype=bool)
    shape[1:3, 2:5] = True
    grey = Image.fromarray(shape.astype(np.uint8) * 255)
    palette = Image.fromarray(shape.astype(np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 200, 30, 30])
    cut_out = Image.new("RGBA", (6, 4), (9, 9, 9, 255))
    cut_out.putalpha(grey)
    pictures = [
        grey,
        Image.fromarray(shape.astype(np.uint8)),  # a class number instead of white
        Image.fromarray(shape),
        Image.fromarray(shape.astype(np.uint16) * 40_000),
        grey.convert("RGB"),
        grey.convert("RGBA"),  # opaque: its colours say what is inside
        grey.convert("LA"),
        palette,
        cut_out,
    ]
    path = tmp_path / "mask.png"
    for picture in pictures:
        data = png(picture)
        path.write_bytes(data)
        for source in (picture, data, path, str(path)):
            assert np.array_equal(mask_from_png(source), shape), picture.mode
    assert np.array_equal(mask_from_alpha(cut_out), shape)


def test_exif_orientation_turns_a_mask_as_it_turns_its_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = mask_from_png(
        png(Image.fromarray(np.array([[255, 0, 0]], dtype=np.uint8)), exif=exif.tobytes())
    )
    assert upright.tolist() == [[True], [False], [False]]


def test_unreadable_masks_are_input_errors(tmp_path: Path) -> None:
    whole = png(Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50), dtype=np.uint8)))
    for source in (b"", b"not a picture", whole[:200], tmp_path / "none.png", tmp_path):
        with pytest.raises(InputError) as raised:
            mask_from_png(source)
        assert "\n" not in str(raised.value)
        assert "0x" not in str(raised.value)
    with pytest.raises(InputError, match="no alpha"):
        mask_from_alpha(Image.new("RGB", (2, 2)))


def test_a_mask_beyond_the_limit_is_refused_before_it_is_decoded() -> None:
    header = bytearray(png(Image.new("L", (1, 1))))
    header[16:24] = (30_000).to_bytes(4, "big") * 2
    with pytest.raises(InputError):
        mask_from_png(bytes(header))


@given(masks, st.booleans())
def test_run_lengths_survive_json(mask: BoolArray, compressed: bool) -> None:
    assert np.array_equal(decode_rle(json.loads(json.dumps(encode_rle(mask, compressed)))), mask)


@given(masks)
def test_run_lengths_are_those_of_pycocotools(mask: BoolArray) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    theirs = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    ours = encode_rle(mask)
    assert ours["counts"].encode() == theirs["counts"]
    assert ours["size"] == theirs["size"]
    assert np.array_equal(decode_rle(theirs), mask)


def test_long_runs_are_those_of_pycocotools() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    mask = np.zeros((3000, 2000), dtype=bool)
    mask[:, 700:1500] = True
    mask[5, 10] = True
    assert (
        encode_rle(mask)["counts"].encode() == coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    )
    assert np.array_equal(decode_rle(encode_rle(mask)), mask)


@pytest.mark.parametrize(
    "rle",
    [
        {},
        {"size": [2, 2]},
        {"size": [2], "counts": [4]},
        {"size": [0, 2], "counts": []},
        {"size": [2, 2], "counts": []},
        {"size": [2, 2], "counts": [3]},
        {"size": [2, 2], "counts": [-1, 5]},
        {"size": [2, 2], "counts": [2.0, 2.0]},
        {"size": [2, 2], "counts": [[2], [2]]},
        {"size": [2, 2], "counts": [10**30]},
        {"size": [2, 2], "counts": None},
        {"size": [2, 2], "counts": ""},
        {"size": [2, 2], "counts": "\x00\x01"},
        {"size": [2, 2], "counts": "é"},
        {"size": [2, 2], "counts": "oooooooooooooooo0"},
        {"size": [2, 2], "counts": b"o"},
        {"size": [10**6, 10**6], "counts": [10**12]},
        {"size": [float("inf"), 2], "counts": [4]},
        {"size": [MAX_PIXELS + 1, 1], "counts": [MAX_PIXELS + 1]},
    ],
)
def test_broken_run_lengths_are_input_errors(rle: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="COCO RLE"):
        decode_rle(rle)


@given(st.binary(max_size=30))
def test_any_bytes_as_run_lengths_give_a_mask_or_an_input_error(counts: bytes) -> None:
    try:
        mask = decode_rle({"size": [5, 4], "counts": counts})
    except InputError:
        return
    assert mask.shape == (5, 4)
