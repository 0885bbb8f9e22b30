import numpy as np
import pytest

from openferret.errors import InputError
from openferret.processing.reference import coordinates_mask, reference_mask, reference_points
from openferret.regions import Box, Mask, Point, Scribble


@pytest.mark.parametrize(
    ("coordinates", "rows", "columns"),
    [
        ((50, 40), (35, 45), (45, 55)),
        ((50.9, 40.2), (35, 45), (45, 55)),
        ((0, 79), (74, 79), (0, 5)),
        ((10, 10, 20, 30), (10, 30), (10, 20)),
        ((-50, -50, 500, 500), (0, 79), (0, 119)),
    ],
)
def test_windows_and_boxes_include_their_last_pixel(coordinates, rows, columns):
    inside = np.argwhere(coordinates_mask(coordinates, 120, 80))
    assert inside.min(0).tolist() == [rows[0], columns[0]]
    assert inside.max(0).tolist() == [rows[1], columns[1]]
    assert len(inside) == (rows[1] - rows[0] + 1) * (columns[1] - columns[0] + 1)


def test_a_box_outside_and_three_numbers():
    assert not coordinates_mask((-20, -20, -10, -10), 120, 80).any()
    with pytest.raises(InputError, match="not 3"):
        coordinates_mask((1, 2, 3), 10, 10)


def test_every_kind_of_region_at_full_size():
    assert reference_mask(Point(50, 40), 3000, 2000).sum() == 121
    assert reference_mask(Box(1, 2, 3, 4), 120, 80).sum() == 9
    assert reference_mask(Scribble([(1, 2), (2900, 1900)]), 3000, 2000).shape == (2000, 3000)
    stored = np.zeros((80, 120), bool)
    stored[3, 4] = True
    assert np.array_equal(reference_mask(Mask(stored), 120, 80), stored)


@pytest.mark.parametrize(
    ("region", "rows", "columns"),
    [
        (Box(20, 30, 10, 10), (10, 30), (10, 20)),  # corners in the other order
        (Box(130, 10, 500, 30), (10, 30), (119, 119)),  # beyond the right edge: its last column
        (Box(-90, -50, -10, -5), (0, 0), (0, 0)),
        (Point(120, 80), (74, 79), (114, 119)),  # on the far edge, which is the last pixel's
        (Point(-40, 1e300), (74, 79), (0, 5)),
    ],
)
def test_regions_are_brought_onto_the_picture_as_the_reference_does(region, rows, columns):
    inside = np.argwhere(reference_mask(region, 120, 80))
    assert inside.min(0).tolist() == [rows[0], columns[0]]
    assert inside.max(0).tolist() == [rows[1], columns[1]]


def test_points_are_pixel_corners_in_column_order_and_repeat_when_there_are_few():
    mask = np.zeros((4, 8), bool)
    mask[1:3, 2:4] = True
    points = reference_points(mask, 6)
    assert points[:4].tolist() == [[0.25, 0.25], [0.25, 0.5], [0.375, 0.25], [0.375, 0.5]]
    assert {tuple(one) for one in points[4:].tolist()} <= {tuple(one) for one in points[:4].tolist()}
    np.testing.assert_array_equal(points, reference_points(mask, 6))


def test_points_of_a_large_mask_differ_and_depend_on_the_seed():
    mask = np.ones((40, 40), bool)
    points = reference_points(mask, 512)
    assert len(np.unique(points, axis=0)) == 512
    assert points.max() < 1
    assert not np.array_equal(points, reference_points(mask, 512, seed=1))


def test_an_empty_mask_is_refused():
    with pytest.raises(InputError, match="no pixel inside"):
        reference_points(np.zeros((3, 3), bool), 4)
