"""A sample in a mirror: what is exchanged, what is moved, and what is left alone."""

import numpy as np
import pytest

from openferret.data.loading.mirroring import can_mirror, mirror_region, mirror_sample, mirror_text
from openferret.data.outlines import RunLengths
from openferret.data.schema import PictureReference, Sample, Turn
from openferret.regions import Box, Mask, Point, Polygon, Scribble, region_bounds

PICTURE = PictureReference("1.png", 64, 48, "mine", "1")


def said(answer, question="What is it?"):
    return Sample("1", PICTURE, (Turn("user", question), Turn("assistant", answer)))


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("the left dog", "the right dog"),
        ("Left.", "Right."),
        ("LEFT SIDE", "RIGHT SIDE"),
        ("the Leftmost one", "the Rightmost one"),
        ("upper-left corner", "upper-right corner"),
        ("on the left a man, to the right of him a dog", "on the right a man, to the left of him a dog"),
        ("left or right?", "right or left?"),
        ("his left hand in the right pocket", "his right hand in the left pocket"),
    ],
)
def test_sides_are_exchanged_and_exchanged_back(text, mirrored):
    assert mirror_text(text) == mirrored
    assert mirror_text(mirrored) == text
    assert can_mirror(said(text))


@pytest.mark.parametrize(
    "text",
    [
        "He left.",
        "They left the room",
        "There is one left",
        "That is all right",
        "the right answer",
        "right now",
        "a bright light",
        "The cleft",
    ],
)
def test_what_is_no_side_stays(text):
    assert mirror_text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "He left.",
        "He is right next to it",
        "It says STOP",
        "a word",
        "the clock",
        "It is 5 o'clock",
        "goes east",
    ],
)
def test_what_a_mirror_would_make_wrong_is_not_mirrored(text):
    assert not can_mirror(said(text))
    assert not can_mirror(said("yes", question=f"{text}?"))


def test_regions_move_to_the_other_side():
    array = np.zeros((48, 64), bool)
    array[4:10, 2:20] = True
    regions = [
        Box(4, 8, 20, 30),
        Point(3, 5),
        Scribble([(1, 2), (9, 8)], 3),
        Polygon([(1, 2), (9, 8), (4, 20)]),
        Mask(array),
    ]
    for region in regions:
        before, after = region_bounds(region, 64, 48), region_bounds(mirror_region(region, 64), 64, 48)
        assert (after.x1, after.y1, after.x2, after.y2) == pytest.approx(
            (64 - before.x2, before.y1, 64 - before.x1, before.y2)
        )
        assert region_bounds(mirror_region(mirror_region(region, 64), 64), 64, 48) == before


def test_a_sample_is_mirrored_whole():
    mask = np.zeros((48, 64), bool)
    mask[8:30, 4:9] = True
    turns = (
        Turn("user", "What is left of <region:0>?"),
        Turn("assistant", "<phrase>a left shoe <box:1>."),
    )
    sample = Sample(
        "1",
        PICTURE,
        turns,
        (Box(4, 8, 20, 30), Point(3, 5)),
        (RunLengths.of(mask), None),
        extra={"absent": "a left boot", "n": 3},
    )
    mirrored = mirror_sample(sample)
    assert [turn.text for turn in mirrored.turns] == [
        "What is right of <region:0>?",
        "<phrase>a right shoe <box:1>.",
    ]
    assert mirrored.regions == (Box(44, 8, 60, 30), Point(61, 5))
    assert (mirrored.mask(0).mask().array == mask[:, ::-1]).all()
    assert mirrored.mask(1) is None
    assert mirrored.extra == {"absent": "a right boot", "n": 3}
    assert mirrored.id != sample.id
    assert mirrored.picture == sample.picture


def test_a_conversation_without_a_picture_stays():
    sample = Sample("1", None, (Turn("user", "Hi"), Turn("assistant", "Hello")))
    assert mirror_sample(sample).turns == sample.turns
