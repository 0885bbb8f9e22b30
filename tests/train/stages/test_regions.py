import numpy as np
import pytest

from openferret.train.stages.regions import KINDS, POINT_RADIUS, draw_region


@pytest.mark.parametrize("kind", KINDS)
def test_points_lie_about_the_box_and_within_the_bounds(kind):
    box = (0.2, 0.3, 0.6, 0.5)
    points, bounds = draw_region(box, kind, 64, np.random.default_rng(0))
    assert points.shape == (64, 2)
    assert points.dtype == np.float32
    low, high = np.array(box[:2]) - 2 * POINT_RADIUS, np.array(box[2:]) + 2 * POINT_RADIUS
    assert (points >= low).all()
    assert (points <= high).all()
    assert (points >= np.float32(bounds[:2])).all()
    assert (points <= np.float32(bounds[2:])).all()


def test_a_point_is_small():
    points, _ = draw_region((0.0, 0.0, 1.0, 1.0), "point", 64, np.random.default_rng(0))
    assert np.ptp(points, axis=0).max() <= 2 * POINT_RADIUS + 1e-6
