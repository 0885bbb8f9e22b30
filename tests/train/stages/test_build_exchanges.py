import numpy as np
import pytest

from openferret.data.schema import PictureReference, Sample, Turn
from openferret.regions import Box, Point
from openferret.train.stages.build_exchanges import exchanges_of
from openferret.train.stages.pictures import WHOLE, Crop

PICTURE = PictureReference("1.jpg", 200, 100, "mine", "1")
DOG, CAT = Box(0, 0, 100, 50), Box(120, 50, 180, 100)
RIGHT_HALF = Crop(0.5, 0.0, 1.0, 1.0, False)


def sample(*texts, regions=(DOG, CAT), **more):
    turns = tuple(Turn(("user", "assistant")[place % 2], text) for place, text in enumerate(texts))
    return Sample("s", PICTURE, turns, regions, task="object", **more)


def exchanges(one, crop=WHOLE, kinds=("box",)):
    return exchanges_of(one, crop, 16, np.random.default_rng(0), kinds)


def test_questions_point_and_answers_ground_in_kits_words():
    (one,) = exchanges(
        sample(
            "How are <region:0> and <region:1> related?", "<phrase>A dog <box:0> sees <phrase>a cat <box:1> ."
        )
    )
    assert one.question == (
        "How are <loc_0><loc_0><loc_500><loc_500><region_fea> and "
        "<loc_600><loc_500><loc_900><loc_999><region_fea> related?"
    )
    assert one.answer == (
        "<phrase>A dog<box><loc_0><loc_0><loc_500><loc_500> sees "
        "<phrase>a cat<box><loc_600><loc_500><loc_900><loc_999>."
    )
    assert one.task == "object"
    first, second = one.regions
    assert (first.shape, first.dtype) == ((16, 2), np.float32)
    assert first[:, 0].max() <= 0.5
    assert second[:, 0].min() >= 0.6


def test_every_turn_is_an_exchange_and_a_region_is_drawn_the_same_way_within_a_question():
    found = exchanges(
        sample("What is <region:0>?", "A dog.", "Is <region:1> or <region:1> bigger?", "Neither."),
        kinds=("scribble",),
    )
    assert [one.answer for one in found] == ["A dog.", "Neither."]
    assert np.array_equal(*found[1].regions)


def test_points_have_two_numbers():
    (one,) = exchanges(sample("What is <region:0>?", "A dog.", regions=(Point(30, 20),)), kinds=("point",))
    assert one.question.count("<loc_") == 2


def test_what_the_crop_cuts_off_is_not_asked():
    dialogue = sample("What is <region:0>?", "A dog.", "Where is the cat?", "<phrase>The cat <box:1>.")
    (one,) = exchanges(dialogue, RIGHT_HALF)
    assert one.answer == "<phrase>The cat<box><loc_199><loc_500><loc_800><loc_999>."


def test_a_mirrored_crop_swaps_left_and_right():
    turns = ("Where is the dog on the left?", "<phrase>The dog on the left <box:0>.")
    (one,) = exchanges(sample(*turns, regions=(DOG,)), Crop(0, 0, 1, 1, True))
    assert one.question == "Where is the dog on the right?"
    assert one.answer == "<phrase>The dog on the right<box><loc_500><loc_0><loc_999><loc_500>."


def test_a_box_alone_is_of_what_was_asked_for():
    (one,) = exchanges(sample("Where is the cat?", "<box:0>", regions=(CAT,)))
    assert one.answer.startswith("<phrase>the cat<box>")


def test_several_boxes_of_a_phrase_follow_each_other():
    (one,) = exchanges(sample("Where are the animals?", "<phrase>Two animals <box:1> <box:0>."))
    assert one.answer.count("<box>") == 2
    assert one.answer.index("<loc_0><loc_0>") < one.answer.index("<loc_600>")


@pytest.mark.parametrize(("negative", "count"), [(True, 1), (False, 0)])
def test_text_without_boxes_needs_the_whole_picture_unless_it_says_what_is_absent(negative, count):
    one = sample("Is there a bus?", "No.", regions=(), negative=negative)
    assert len(exchanges(one, RIGHT_HALF)) == count
    assert len(exchanges(one)) == 1


def test_words_that_look_like_tokens_stay_words():
    (one,) = exchanges(sample("Is it <loc_5> or <region_fea>?", "It is <\\box:0> <image>.", regions=()))
    assert one.question != "Is it <loc_5> or <region_fea>?"
    assert "<image>" not in one.answer


def test_without_a_picture_there_is_nothing():
    one = Sample("s", None, (Turn("user", "Hi"), Turn("assistant", "Hello")), ())
    assert exchanges(one) == []
