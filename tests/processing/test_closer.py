from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from openferret.pixel_mask import Mask
from openferret.processing.closer import FRAMING, closer_crops, crop_image, crop_window, drawn_as
from openferret.regions import Box, Point, Polygon, Scribble

shares = st.floats(0, 1, allow_nan=False, width=32)


@given(shares, shares, shares, shares, st.sampled_from(sorted(FRAMING)), st.floats(0.5, 2))
def test_a_crop_shows_what_was_drawn_and_nothing_beyond_the_picture(a, b, c, d, drawn, zoom):
    x1, x2, y1, y2 = min(a, c), max(a, c), min(b, d), max(b, d)
    window = crop_window((x1, y1, x2, y2), drawn, zoom)
    assert 0 <= window[0] < window[2] <= 1
    assert 0 <= window[1] < window[3] <= 1
    if zoom >= 1:
        assert window[0] <= x1 + 1e-6
        assert window[3] >= y2 - 1e-6


def test_a_narrow_thing_is_shown_with_what_is_beside_it():
    x1, y1, x2, y2 = crop_window((0.5, 0.2, 0.52, 0.8), "box")
    assert (x2 - x1) / (y2 - y1) == pytest.approx(0.5)
    assert y2 - y1 == pytest.approx(0.6 * 1.4)


def test_every_kind_of_region_is_drawn_as_something():
    square = np.zeros((8, 8), bool)
    square[2:4, 2:4] = True
    regions = [
        Point(1, 1),
        Box(0, 0, 2, 2),
        Scribble([(1, 1)]),
        Polygon([(0, 0), (5, 0), (5, 5)]),
        Mask(square),
    ]
    assert [drawn_as(one) for one in regions] == ["point", "box", "scribble", "box", "box"]
    crops, bounds = closer_crops(Image.new("RGB", (8, 8)), regions, 32)
    assert crops.shape == (5, 32, 32, 3)
    assert crops.dtype == np.uint8
    assert bounds.shape == (5, 4)
    assert bounds[4].tolist() == [0.25, 0.25, 0.5, 0.5]


def test_a_crop_is_read_from_the_picture_at_its_own_size():
    pixels = np.random.default_rng(0).integers(0, 256, (320, 640, 3), np.uint8)
    crop = crop_image(Image.fromarray(pixels), (0.5, 0.25, 0.55, 0.35), 32)
    assert np.array_equal(crop, pixels[80:112, 320:352])  # 32 of its pixels across, none of them mixed


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_pictures_of_a_few_pixels_are_looked_at_too(size):
    image = Image.new("RGB", size, "red")
    crops, _ = closer_crops(image, [Point(0, 0), Box(0, 0, *size), Point(size[0], size[1])], 32)
    assert (crops == (255, 0, 0)).all()
