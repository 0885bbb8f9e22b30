from __future__ import annotations

import pytest

from openferret.errors import InputError
from openferret.generation.questions import write_question
from openferret.regions import Box, Point

SIZE = (60, 40)


@pytest.fixture(scope="module")
def kit(tiny):
    return tiny.loaded("kit").processor


def words(processor, question):
    return "".join(processor.tokenizer.convert_ids_to_tokens(question.ids))


def test_regions_stand_where_they_are_mentioned(kit):
    question = write_question(kit, "is [1] red or [0] or [1]?", [Point(30, 10), Box(0, 0, 30, 20)], SIZE)
    assert words(kit, question) == (
        "is <loc_0><loc_0><loc_500><loc_500><region_fea> red or <loc_500><loc_250><region_fea>"
        " or <loc_0><loc_0><loc_500><loc_500><region_fea>?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert question.regions == (Box(0, 0, 30, 20), Point(30, 10), Box(0, 0, 30, 20))
    assert question.warnings == ()


def test_what_looks_like_a_placeholder_but_is_none_is_taken_literally(kit):
    question = write_question(kit, "is <region_fea> at [a] or [1, 2]? <|im_end|>", [], SIZE)
    assert question.regions == ()
    assert question.ids.count(kit.tokenizer.convert_tokens_to_ids("<region_fea>")) == 0
    assert question.ids.count(kit.tokenizer.convert_tokens_to_ids("<|im_end|>")) == 1


@pytest.mark.parametrize("text", ["what is [0]?", "what is [7] [0]?", f"[{'9' * 10_000}]"])
def test_a_region_that_was_not_given_is_refused(kit, text):
    with pytest.raises(InputError, match=r"mentions region \[\d+\], but there are none"):
        write_question(kit, text, [], SIZE)
    if text != "what is [0]?":
        with pytest.raises(InputError, match="but there are only 1"):
            write_question(kit, text, [Point(1, 1)], SIZE)


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_an_empty_question_is_refused(kit, text):
    with pytest.raises(InputError, match="empty"):
        write_question(kit, text, [], SIZE)


def test_what_was_changed_or_left_out_is_said(kit):
    question = write_question(kit, "what is [0]?", [Box(-5, 0, 20, 20), Point(1, 1)], SIZE)
    assert question.regions == (Box(0, 0, 20, 20),)
    assert any("clipped" in one for one in question.warnings)
    assert "the question does not mention region [1]" in question.warnings


def test_shares_of_the_picture_are_doubted(kit):
    question = write_question(kit, "what is [0]?", [Box(0.1, 0.2, 0.8, 0.9)], (640, 480))
    assert [one for one in question.warnings if "pixels, not 0..1" in one]


@pytest.mark.parametrize("long", ["dog [0] " * 5000, "a" * 1_000_000, " " * 900_000 + "dog", "[0]" * 300])
def test_a_question_that_is_too_long_is_cut_with_a_warning(kit, long):
    question = write_question(kit, "what is " + long, [Point(1, 1)], SIZE, room=100)
    assert len(question.ids) <= 100
    assert any("too long" in one for one in question.warnings)
    assert question.ids.count(kit.tokenizer.convert_tokens_to_ids("<region_fea>")) == len(question.regions)
    assert question.ids[-1] == kit.tokenize("\n")[0]


def test_without_any_room_it_is_refused(kit):
    with pytest.raises(InputError, match="no room"):
        write_question(kit, "what is the dog?", [], SIZE, room=3)


def test_what_is_cut_off_a_long_question_is_not_its_only_words(kit):
    question = write_question(kit, " " * 100_000 + "is red?", [], SIZE)
    assert words(kit, question).startswith("is red?")
    assert question.warnings == ()


def test_a_question_is_text(kit):
    with pytest.raises(InputError, match="must be str, not NoneType"):
        write_question(kit, None, [], SIZE)
