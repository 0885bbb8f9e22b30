import pytest

from openferret.regions import Box, Point, Scribble
from openferret.train.evaluate import (
    Outcome,
    intersection_over_union,
    pointed_at,
    single_regions,
    summarize,
)
from openferret.train.flickr30k import EntitiesPicture, read_caption


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3),
        ((0, 0, 1, 1), (1, 1, 2, 2), 0),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0),
    ],
)
def test_intersection_over_union_by_hand(first, second, expected):
    assert intersection_over_union(first, second) == pytest.approx(expected)


def test_intervals_hold_the_value_and_are_drawn_by_picture():
    outcomes = [Outcome(f"{k % 10}", "found", k % 10 < 5) for k in range(100)]
    found = summarize(outcomes)["found"]
    assert found["value"] == 0.5
    # Ten pictures, all right or all wrong: far less certain than a hundred questions of their own.
    assert found["low"] <= 0.3
    assert found["high"] >= 0.7
    assert found["n"] == 100


def test_only_boxes_that_are_their_entitys_only_one_are_regions():
    boxes = {"1": ((0.0, 0.0, 0.5, 0.5),), "2": ((0.1, 0.1, 0.2, 0.2), (0.3, 0.3, 0.4, 0.4))}
    captions = (read_caption("[/EN#1/people A man] with [/EN#2/animals dogs]", boxes),)
    more = (read_caption("[/EN#1/people A guy]", boxes),)
    assert single_regions(EntitiesPicture("a", captions + more)) == {boxes["1"][0]: {"man", "guy"}}


@pytest.mark.parametrize(("kind", "expected"), [("box", Box), ("point", Point), ("scribble", Scribble)])
def test_regions_of_every_kind_lie_in_their_box(kind, expected):
    region = pointed_at((0.25, 0.5, 0.75, 1.0), kind, 400, 200, seed=3)
    assert isinstance(region, expected)
    if isinstance(region, Point):
        assert 100 <= region.x <= 300
        assert 100 <= region.y <= 200
