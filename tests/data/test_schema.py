import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openferret.data.outlines import Polygons, RunLengths, outline_mask, outline_runs, region_from_dict
from openferret.data.schema import PictureReference, Sample, Turn
from openferret.errors import InputError
from openferret.regions import Box, Mask, Point, Polygon


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_a_sample_comes_back_from_json(making, data):
    sample = data.draw(making.samples())
    form = json.loads(json.dumps(sample.to_dict()))
    assert Sample.from_dict(form) == sample


def user(text):
    return Turn("user", text)


def assistant(text):
    return Turn("assistant", text)


TWO = (Box(1, 2, 3, 4), Box(1, 2, 3, 4))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"turns": ()}, "an answer to every question"),
        ({"turns": (user("Hi"),)}, "an answer to every question"),
        ({"turns": (assistant("Hi"), user("Hi"))}, "turn 0 should be the user's"),
        ({"turns": (user("<box:0>"), assistant("<box:1>"))}, "turn 0 has <box:0>"),
        ({"turns": (user("<region:0>"), assistant("<region:1>"))}, "turn 1 has <region:1>"),
        ({"turns": (user("<region:2>"), assistant("a"))}, "mentions <region:2>, but there are 2 regions"),
        ({"turns": (user("<region:0>"), assistant("a"))}, "no turn mentions region 1"),
        ({"regions": (Box(5, 2, 3, 4), TWO[1])}, "region 0 is a box that is empty"),
        ({"regions": (TWO[0], Box(3, 2, 3, 4))}, "region 1 is a box that is empty"),
        ({"regions": (Box(50, 2, 60, 4), TWO[1])}, "region 0 lies outside the 40 x 30"),
        ({"regions": (Point(50, 2), TWO[1])}, "region 0 lies outside"),
        ({"regions": (Polygon([(50, 2), (60, 3), (55, 9)]), TWO[1])}, "region 0 lies outside"),
        ({"regions": ((1, 2, 3, 4), TWO[1])}, "is not a region, but tuple"),
        ({"regions": (Mask(np.ones((3, 3))), TWO[1])}, "is a mask of 3 x 3"),
        ({"masks": (RunLengths(3, 3, "03"), None)}, "mask 0 is 3 x 3"),
        ({"masks": (RunLengths(30, 40, "03"),)}, "1 masks for 2 regions"),
        ({"picture": None}, "no picture of known size"),
        ({"picture": PictureReference("a", 0, 0, "", "")}, "no picture of known size"),
        ({"version": 2}, "version 2"),
        ({"negative": 1}, "negative must be true or false"),
    ],
)
def test_what_does_not_hold_together_is_refused_by_name(making, changes, said):
    with pytest.raises(InputError, match=f"sample s1: .*{said}"):
        making.sample(**changes)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Turn("human", "Hi"),
        lambda: Turn("user", " "),
        lambda: Turn("user", None),
        lambda: PictureReference("", 1, 1, "", ""),
        lambda: PictureReference("a", 1, 0, "", ""),
        lambda: PictureReference("a", 1.5, 2, "", ""),
        lambda: PictureReference("a", True, True, "", ""),
        lambda: PictureReference("a", 1, 1, None, ""),
        lambda: PictureReference("a", 1, 1, "", "", (1,)),
    ],
)
def test_parts_are_checked_on_their_own(make):
    with pytest.raises(InputError):
        make()


def test_a_box_may_reach_beyond_the_picture_and_is_given_within_it(making):
    turns = (user("<region:0>"), assistant("a"))
    sample = making.sample(turns=turns, regions=(Box(-3, 5, 130, 20),))
    assert sample.regions[0] == Box(-3, 5, 130, 20)
    assert sample.box(0) == Box(0, 5, 40, 20)


def test_masks_that_are_all_unknown_are_none(making):
    assert making.sample(masks=(None, None)) == making.sample()
    assert making.sample().mask(1) is None


def test_samples_are_frozen_and_hashable(making):
    sample = making.sample()
    with pytest.raises(dataclasses.FrozenInstanceError):
        sample.id = "other"
    assert len({sample, making.sample()}) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda form: form.pop("turns"),
        lambda form: form.update(turns=3),
        lambda form: form.update(turns=[{"role": "user"}]),
        lambda form: form.update(regions=[{"circle": [1, 2]}]),
        lambda form: form.update(regions=[{"box": [1, 2, 3]}]),
        lambda form: form.update(regions=[{"box": [1, 2, float("nan"), 3]}]),
        lambda form: form.update(provenance={"who": "me"}),
        lambda form: form.update(provenance=None),
        lambda form: form.update(picture={"file": "a"}),
        lambda form: form.update(masks=[{"size": [30], "counts": "1"}, None]),
        lambda form: form.update(version="1"),
        lambda form: form.update(extra=7),
    ],
)
def test_damaged_json_is_named(making, damage):
    form = making.sample().to_dict()
    damage(form)
    with pytest.raises(InputError, match="sample s1"):
        Sample.from_dict(form)


@pytest.mark.parametrize("form", [None, [], "a", {}])
def test_what_is_no_sample_at_all(form):
    with pytest.raises(InputError, match="without an id"):
        Sample.from_dict(form)


def test_outlines_of_one_thing_are_the_same_mask():
    square = Polygons((Polygon([(2, 3), (6, 3), (6, 9), (2, 9)]),))
    runs = outline_runs(square, 40, 30)
    assert outline_mask(square, 40, 30) == outline_mask(runs, 40, 30) == runs.mask()
    assert runs.mask().array.sum() == 24
    with pytest.raises(InputError, match="not of the picture's size"):
        outline_mask(runs, 41, 30)
    with pytest.raises(InputError, match="empty"):
        outline_mask(Polygons((Polygon([(50, 3), (60, 3), (60, 9)]),)), 40, 30)


def test_regions_without_a_kind():
    with pytest.raises(InputError, match="one of box, point"):
        region_from_dict({})
