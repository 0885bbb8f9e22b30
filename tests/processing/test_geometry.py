from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openferret.errors import InputError
from openferret.processing.geometry import (
    SamplerGeometry,
    farthest_points,
    masks_geometry,
    nearest_neighbors,
    sample_points,
)

SMALL = SamplerGeometry(points=24, anchors=(8, 4), neighbors=(6, 5))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**16), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_points_are_centres_of_pixels_inside_and_repeat_only_when_they_must(height, width, seed, count):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    mask[0, 0] = True
    points = sample_points(mask, count, seed)
    columns, rows = (points * (width, height)).T
    assert mask[rows.astype(int), columns.astype(int)].all()
    np.testing.assert_allclose(columns % 1, 0.5, atol=1e-4)
    inside = int(mask.sum())
    assert len({tuple(point) for point in points.tolist()}) == min(inside, count) or count > inside
    if count >= inside:
        assert len({tuple(point) for point in points.tolist()}) == inside
    np.testing.assert_array_equal(points, sample_points(mask, count, seed))


def test_a_mask_without_pixels_is_refused():
    with pytest.raises(InputError, match="empty"):
        sample_points(np.zeros((3, 3), bool), 4)


def test_farthest_points_start_in_the_middle_and_go_to_the_corners():
    grid = np.stack(np.meshgrid(np.arange(5), np.arange(5)), -1).reshape(1, -1, 2).astype(np.float32)
    chosen = grid[0][farthest_points(grid, 5)[0]]
    assert chosen[0].tolist() == [2, 2]
    assert {tuple(one) for one in chosen[1:].tolist()} == {(0, 0), (0, 4), (4, 0), (4, 4)}


def test_farthest_points_of_equal_points_and_neighbours_are_still_valid_indices():
    points = np.zeros((2, 6, 2), np.float32)
    chosen = farthest_points(points, 4)
    near = nearest_neighbors(points, points[:, :4], 3)
    assert chosen.shape == (2, 4)
    assert chosen.min() >= 0
    assert chosen.max() < 6
    assert near[0, 0].tolist() == [0, 1, 2]


@given(st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_neighbours_are_the_nearest(seed):
    generator = np.random.default_rng(seed)
    points, anchors = generator.random((1, 20, 2), np.float32), generator.random((1, 3, 2), np.float32)
    near = nearest_neighbors(points, anchors, 5)[0]
    for anchor, indices in zip(anchors[0], near, strict=True):
        distance = ((points[0] - anchor) ** 2).sum(-1)
        np.testing.assert_allclose(np.sort(distance)[:5], distance[indices])


def test_regions_of_different_sizes_share_a_batch_and_do_not_touch_each_other():
    masks = [np.ones((1, 1), bool), np.eye(30, dtype=bool), np.ones((200, 50), bool)]
    together = masks_geometry(masks, SMALL, seed=3)
    assert together.points.shape == (3, 24, 2)
    assert [one.shape for one in together.anchors] == [(3, 8), (3, 4)]
    assert [one.shape for one in together.neighbors] == [(3, 8, 6), (3, 4, 5)]
    for index, mask in enumerate(masks):
        alone = masks_geometry([mask], SMALL, seed=3)
        np.testing.assert_array_equal(alone.points[0], together.points[index])
        np.testing.assert_array_equal(alone.neighbors[1][0], together.neighbors[1][index])


def test_no_region_gives_empty_arrays():
    nothing = masks_geometry([], SMALL)
    assert nothing.points.shape == (0, 24, 2)
    assert nothing.neighbors[0].shape == (0, 8, 6)


@pytest.mark.parametrize(
    "sizes",
    [
        {"points": 4, "anchors": (8,), "neighbors": (2,)},
        {"points": 8, "anchors": (4, 2), "neighbors": (2,)},
        {"points": 8, "anchors": (), "neighbors": ()},
        {"points": 8, "anchors": (4,), "neighbors": (9,)},
        {"points": 8, "anchors": (0,), "neighbors": (1,)},
    ],
)
def test_sizes_that_no_region_could_satisfy_are_refused(sizes):
    with pytest.raises(InputError, match="sampler"):
        SamplerGeometry(**sizes)
