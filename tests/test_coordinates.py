import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openferret.coordinates import (
    BINS,
    bins_to_box,
    box_to_bins,
    denormalize_box,
    format_bins_text,
    format_bins_tokens,
    from_bin,
    normalize_box,
    repair_bins,
    to_bin,
)
from openferret.errors import InputError
from openferret.regions import Box

sizes = st.integers(1, 20_000)
bins = st.integers(0, BINS - 1)
pixels = st.floats(-1e6, 1e6)


@given(pixels, sizes)
def test_bins_are_those_that_ferret_writes(value: float, size: int) -> None:
    clamped = max(0.0, min(value, size - 1))
    assert to_bin(value, size) == int(clamped * 1000 / size)
    assert 0 <= to_bin(value, size) < BINS


@given(bins, sizes)
def test_a_bin_survives_pixels_as_far_as_ferret_writes_it(index: int, size: int) -> None:
    highest = to_bin(size, size)
    assert to_bin(from_bin(index, size), size) == min(index, highest)


@given(st.tuples(bins, bins, bins, bins), st.integers(1000, 20_000), st.integers(1000, 20_000))
def test_boxes_survive_pixels_in_a_large_picture(
    four: tuple[int, int, int, int], width: int, height: int
) -> None:
    assert box_to_bins(bins_to_box(four, width, height), width, height) == four


@given(pixels, sizes)
def test_pixels_survive_bins_to_half_a_bin_and_the_clamp(value: float, size: int) -> None:
    clamped = max(0.0, min(value, size - 1))
    assert abs(from_bin(to_bin(value, size), size) - clamped) <= 0.5 * size / BINS + 1e-9 * size


@pytest.mark.parametrize("index", [-1, 1000])
def test_bins_outside_are_refused(index: int) -> None:
    with pytest.raises(InputError, match="between 0 and 999"):
        from_bin(index, 640)


@given(st.tuples(*[st.integers(-5000, 5000)] * 4))
def test_repaired_bins_make_a_box(four: tuple[int, int, int, int]) -> None:
    x1, y1, x2, y2 = repair_bins(four)
    assert 0 <= x1 <= x2 < BINS
    assert 0 <= y1 <= y2 < BINS
    assert repair_bins((x1, y1, x2, y2)) == (x1, y1, x2, y2)


@given(st.builds(Box, pixels, pixels, pixels, pixels), sizes, sizes)
def test_normalized_boxes_come_back(box: Box, width: int, height: int) -> None:
    back = denormalize_box(normalize_box(box, width, height), width, height)
    ours, theirs = (back.x1, back.y1, back.x2, back.y2), (box.x1, box.y1, box.x2, box.y2)
    assert ours == pytest.approx(theirs)


def test_a_normalized_box_has_four_numbers() -> None:
    with pytest.raises(InputError, match="not 3"):
        denormalize_box((0.1, 0.2, 0.3), 10, 10)


def test_written_forms() -> None:
    assert format_bins_text((5, 10)) == "[5, 10]"
    assert format_bins_text((5, 10, 20, 999)) == "[5, 10, 20, 999]"
    assert format_bins_tokens((5, 10, 20, 999)) == "<loc_5><loc_10><loc_20><loc_999>"


def test_coordinates_and_answers_need_only_the_standard_library() -> None:
    code = (
        "import sys, openferret.answer, openferret.coordinates, openferret.regions;"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'PIL', 'torch', 'transformers')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
