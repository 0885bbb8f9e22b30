import numpy as np
import pytest

from openferret.data.loading.pointing import KINDS, show_region
from openferret.data.outlines import RunLengths
from openferret.data.schema import PictureReference, Sample, Turn
from openferret.errors import InputError
from openferret.regions import Box, Mask, Point, Polygon, Scribble, region_bounds, region_mask

BOX = Box(40, 30, 200, 180)


def sample(name="1", regions=(BOX,), masks=()):
    marks = " ".join(f"<region:{n}>" for n in range(len(regions)))
    turns = (Turn("user", f"What is {marks}?"), Turn("assistant", "A dog."))
    return Sample(name, PictureReference("1.jpg", 320, 240, "mine", "1"), turns, regions, masks)


def ring():
    """A thing with a hole: its middle is not part of it."""
    y, x = np.mgrid[:240, :320]
    distance = np.hypot(x - 120, y - 105)
    return (distance < 70) & (distance > 40)


def test_a_drawing_depends_on_id_epoch_and_index_alone():
    assert show_region(sample(), 0, 3) == show_region(sample(), 0, 3)
    drawn = [str(show_region(sample(str(name)), 0, epoch)) for name in range(4) for epoch in range(4)]
    assert len(set(drawn)) > 8


def test_every_kind_is_drawn():
    one = sample(masks=(RunLengths.of(ring()),))
    kinds = {type(show_region(one, 0, epoch)) for epoch in range(60)}
    assert kinds == {Point, Box, Scribble, Polygon, Mask}


@pytest.mark.parametrize("kind", KINDS)
def test_drawings_stay_about_the_thing(kind):
    for epoch in range(20):
        bounds = region_bounds(show_region(sample(), 0, epoch, kinds=[kind]), 320, 240)
        assert min(bounds.x1 - BOX.x1, bounds.y1 - BOX.y1) >= -6
        assert max(bounds.x2 - BOX.x2, bounds.y2 - BOX.y2) <= 6


def test_points_lie_on_the_thing_where_its_outline_is_known():
    mask = ring()
    one = sample(masks=(RunLengths.of(mask),))
    for epoch in range(20):
        point = show_region(one, 0, epoch, kinds=["point"])
        assert mask[int(point.y), int(point.x)]
        loop = region_mask(show_region(one, 0, epoch, kinds=["polygon"]), 320, 240)
        assert (loop & mask).sum() > 0.55 * mask.sum()


def test_what_the_writer_drew_is_kept():
    assert show_region(sample(regions=(Point(5, 6),)), 0, 1) == Point(5, 6)


def test_without_an_outline_a_mask_is_the_box():
    assert show_region(sample(), 0, 0, kinds=["mask"]) == BOX


def test_another_kind_is_refused():
    with pytest.raises(InputError, match="not as circle"):
        show_region(sample(), 0, 0, kinds=["circle"])
