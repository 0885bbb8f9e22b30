from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openferret.errors import InputError
from openferret.regions import (
    Box,
    Mask,
    Point,
    Polygon,
    Region,
    Scribble,
    doubt_pixels,
    fit_region,
    parse_box,
    parse_point,
    parse_polygon,
    parse_region,
    parse_scribble,
    point_radius,
    region_bounds,
    region_mask,
)

sizes = st.integers(1, 60)
numbers = st.floats(-100, 160) | st.floats(allow_nan=False, allow_infinity=False)
pairs = st.tuples(numbers, numbers)
regions = (
    st.builds(Point, numbers, numbers)
    | st.builds(Box, numbers, numbers, numbers, numbers)
    | st.builds(Scribble, st.lists(pairs, min_size=1, max_size=6), st.none() | st.floats(0.1, 200))
    | st.builds(Polygon, st.lists(pairs, min_size=3, max_size=6))
)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "wide", None])
def test_numbers_must_be_finite(bad: Any) -> None:
    makers = [
        lambda: Point(bad, 1),
        lambda: Box(1, 2, bad, 4),
        lambda: Scribble([(1, bad)]),
        lambda: Polygon([(1, 2), (3, 4), (bad, 5)]),
    ]
    for make in makers:
        with pytest.raises(InputError):
            make()


def test_counts_are_checked() -> None:
    with pytest.raises(InputError, match="at least 3 points, not 2"):
        Polygon([(1, 2), (3, 4)])
    with pytest.raises(InputError, match="at least 1 point,"):
        Scribble([])
    with pytest.raises(InputError, match="above 0"):
        Scribble([(1, 2)], width=0)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4)), "empty"),
        (np.zeros((0, 4)), "empty"),
        (np.ones((4, 4, 3)), "two-dimensional"),
        (np.array([["a", "b"]]), "two-dimensional"),
        ([[1], [1, 2]], "differ in length"),
        ([[float("nan"), 1]], "not finite"),
    ],
)
def test_masks_are_checked(array: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Mask(array)


# PyTorch raises these of tensors on a GPU, and of tensors with gradients.
@pytest.mark.parametrize("problem", [TypeError, RuntimeError])
def test_a_mask_that_numpy_cannot_read_is_refused(problem: type[Exception]) -> None:
    class Tensor:
        def __array__(self, *args: Any, **kwargs: Any) -> Any:
            raise problem("use tensor.cpu() first")

    with pytest.raises(InputError, match=r"NumPy can read: use tensor.cpu\(\) first"):
        Mask(Tensor())  # type: ignore[arg-type]


def test_regions_compare_and_hash_by_content() -> None:
    array = np.eye(3)
    mask = Mask(array)
    array[0, 2] = 1
    assert mask == Mask(np.eye(3, dtype=bool) * 7)
    assert mask != Mask(array)
    assert mask != Point(1, 2)
    assert (
        len({mask, Mask(np.eye(3)), Point(1, 2), Point(1.0, 2.0), Scribble([(1, 2)]), Scribble([[1, 2]])})
        == 3
    )
    with pytest.raises(ValueError, match="read-only"):
        mask.array[0, 0] = False


def test_arrays_are_taken_as_points() -> None:
    assert Polygon(np.array([[0, 0], [2, 0], [2, 2]])) == Polygon([(0, 0), (2, 0), (2, 2)])


def test_region_text_is_parsed() -> None:
    assert parse_point("10,20") == parse_region("point 10,20") == Point(10, 20)
    assert parse_box("10, 20, 200, 220") == parse_region(" BOX 10 20 200 220") == Box(10, 20, 200, 220)
    assert parse_scribble("1,2 3,4") == parse_region("scribble 1,2 3,4") == Scribble([(1, 2), (3, 4)])
    assert (
        parse_polygon("1,2 3,4 5,6")
        == parse_region("polygon 1,2  3,4 5,6")
        == Polygon([(1, 2), (3, 4), (5, 6)])
    )


@pytest.mark.parametrize(
    "text", ["", "box", "box 1,2,3", "circle 1,2", "point nan,1", "polygon 1,2 3,4", "10,20"]
)
def test_region_text_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_region(text)
    assert "\n" not in str(raised.value)


def test_what_fits_is_returned_as_it_is() -> None:
    mask = Mask(np.ones((80, 100)))
    for region in (
        Point(0, 80),
        Box(0, 0, 100, 80),
        Scribble([(3, 4)]),
        Polygon([(0, 0), (9, 0), (9, 9)]),
        mask,
    ):
        fitted, notes = fit_region(region, 100, 80)
        assert fitted is region
        assert notes == []


@pytest.mark.parametrize(
    ("region", "fitted", "words"),
    [
        (Point(-3, 500), Point(0, 80), ["moved"]),
        (Box(-10, 20, 30, 900), Box(0, 20, 30, 80), ["clipped"]),
        (Box(30, 40, 10, 20), Box(10, 20, 30, 40), ["swapped"]),
        (Box(10, 20, 10, 20), Point(10, 20), ["point"]),
        (Box(200, 10, 300, 30), Point(100, 20), ["lies outside", "point"]),
        (Box(-9, -9, 0, 5), Point(0, 2.5), ["lies outside", "point"]),
        (Scribble([(150, 90), (200, 95)]), Scribble([(100, 80), (100, 80)]), ["lies outside"]),
        (Scribble([(-5, 5), (5, 5)]), Scribble([(0, 5), (5, 5)]), ["clipped"]),
        (
            Polygon([(-10, 0), (10, 0), (10, 20), (-10, 20)]),
            Polygon([(0, 0), (10, 0), (10, 20), (0, 20)]),
            ["clipped"],
        ),
        (Polygon([(5, 5), (7, 5), (9, 5)]), Point(7, 5), ["point"]),
        (Polygon([(200, 10), (300, 10), (250, 40)]), Point(100, 20), ["lies outside", "point"]),
    ],
)
def test_what_does_not_fit_is_changed_and_said(region: Region, fitted: Region, words: list[str]) -> None:
    result, notes = fit_region(region, 100, 80)
    assert result == fitted
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))


@pytest.mark.parametrize(
    "region",
    [
        Point(0.5, 0.4),
        Box(0, 0, 1, 1),
        Box(0.1, 0.2, 0.8, 0.9),
        Scribble([(0.1, 0.2), (0.3, 1)]),
        Polygon([(0, 0), (1, 0), (1, 1)]),
    ],
)
def test_shares_of_the_picture_are_doubted(region: Region) -> None:
    (note,) = doubt_pixels(region, 640, 480)
    assert "pixels, not 0..1" in note
    assert doubt_pixels(region, 8, 8) == []


def test_pixels_are_not_doubted() -> None:
    regions = (Point(0, 0), Point(1, 1), Point(0.5, 20), Box(0, 0, 1, 480), Mask(np.ones((480, 640))))
    assert not any(doubt_pixels(region, 640, 480) for region in regions)


def test_a_mask_of_another_size_is_refused_everywhere() -> None:
    mask = Mask(np.ones((10, 20)))
    for place in (fit_region, region_mask, region_bounds):
        with pytest.raises(InputError, match="20 x 10 pixels"):
            place(mask, 10, 20)


@given(regions, sizes, sizes)
def test_any_region_is_put_inside_any_picture(region: Region, width: int, height: int) -> None:
    fitted, _ = fit_region(region, width, height)
    again, notes = fit_region(fitted, width, height)
    assert (again, notes) == (fitted, [])
    mask, bounds = region_mask(region, width, height), region_bounds(region, width, height)
    assert mask.shape == (height, width)
    assert mask.any()
    assert 0 <= bounds.x1 <= bounds.x2 <= width
    assert 0 <= bounds.y1 <= bounds.y2 <= height
    down, across = np.nonzero(mask)
    # A thin line is drawn to whole pixels, so a stroke may reach a pixel further than its exact bounds.
    slack = 1.5 if isinstance(fitted, Scribble) else 0.5
    assert bounds.x1 - slack <= across.min() + 0.5 <= across.max() + 0.5 <= bounds.x2 + slack
    assert bounds.y1 - slack <= down.min() + 0.5 <= down.max() + 0.5 <= bounds.y2 + slack


def test_a_box_is_half_open_where_the_reference_is_inclusive() -> None:
    mask = region_mask(Box(10, 10, 20, 30), 120, 80)
    assert mask[10:30, 10:20].all()
    assert mask.sum() == 200  # the reference: 231


def test_a_point_is_a_disc_of_5_in_336() -> None:
    assert point_radius(500, 336) == 5
    assert point_radius(4000, 2) == 0.5
    mask = region_mask(Point(100.5, 50.5), 500, 336)
    assert mask.sum() == 81  # whole pixels within 5 of a pixel's centre; the reference: a square of 121
    assert region_bounds(Point(100.5, 50.5), 500, 336) == Box(95.5, 45.5, 105.5, 55.5)


def test_shapes_agree_on_what_they_cover() -> None:
    box = region_mask(Box(3, 4, 20, 9), 40, 30)
    outline = region_mask(Polygon([(3, 4), (20, 4), (20, 9), (3, 9)]), 40, 30)
    assert np.array_equal(box, outline)
    assert np.array_equal(box, region_mask(Mask(box), 40, 30))
    assert region_bounds(Mask(box), 40, 30) == Box(3, 4, 20, 9)


def test_a_large_picture_gets_a_smaller_grid() -> None:
    regions_at_one_place: list[Region] = [
        Box(1000, 500, 3000, 1500),
        Polygon([(1000, 500), (3000, 500), (3000, 1500), (1000, 1500)]),
        Mask(region_mask(Box(1000, 500, 3000, 1500), 4000, 2000, max_side=4000)),
    ]
    for region in regions_at_one_place:
        mask = region_mask(region, 4000, 2000, max_side=400)
        assert mask.shape == (200, 400)
        assert mask[50:150, 100:300].all()
        assert mask.sum() == 100 * 200


@pytest.mark.parametrize("size", [(1, 1), (4000, 2), (2, 4000)])
def test_odd_pictures_have_regions_too(size: tuple[int, int]) -> None:
    one_pixel = np.zeros(size[::-1])
    one_pixel[-1, -1] = 1
    for region in (Point(0, 0), Box(0, 0, 0.3, 0.3), Scribble([(0.2, 0.2)]), Mask(one_pixel)):
        mask = region_mask(region, *size)
        assert mask.any()
        assert max(mask.shape) <= 1024


def test_a_million_vertices_are_no_trouble() -> None:
    angles = np.linspace(0, 2 * np.pi, 1_000_000)
    circle = Polygon(np.stack([200 + 100 * np.cos(angles), 200 + 100 * np.sin(angles)], axis=1))
    assert region_mask(circle, 400, 400).sum() == pytest.approx(np.pi * 100**2, rel=1e-3)
