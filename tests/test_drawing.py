"""What is drawn is on the right place, in the colour of its phrase, and readable at every size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor

from openferret.answer import Answer, LocatedBox, Mention
from openferret.drawing import draw_answer
from openferret.errors import InputError
from openferret.regions import Box, Mask, Point, Polygon, Scribble

RED, BLUE = ImageColor.getrgb("#c8102e"), ImageColor.getrgb("#0b5fd0")
YELLOW = ImageColor.getrgb("#ffd60a")


def answer_about(width, height, *named, text=None):
    words = text or " and ".join(phrase for phrase, _ in named)
    mentions = []
    for phrase, boxes in named:
        start = words.index(phrase)
        located = tuple(LocatedBox.of(box, width, height, 0.5) for box in boxes)
        mentions.append(Mention(phrase, (start, start + len(phrase)), located))
    return Answer(words, tuple(mentions), width, height, "fake", {})


def where(image, colour):
    """Rows and columns of every pixel of a colour."""
    rows, columns = np.nonzero((np.asarray(image) == colour).all(-1))
    return rows, columns


def test_box_is_framed_where_it_is_and_its_inside_is_untouched():
    picture = Image.new("RGB", (800, 600), (10, 20, 30))
    drawn = draw_answer(picture, answer_about(800, 600, ("a dog", [Box(200, 300, 400, 500)])))
    inside = np.asarray(drawn)[330:500, 200:400]
    assert (inside == (10, 20, 30)).all()
    rows, columns = where(drawn.crop((0, 0, 800, 600)), RED)
    assert 195 <= columns.min() <= 200 <= 400 <= columns.max() <= 410
    assert rows.max() <= 510


def test_phrase_in_the_caption_has_the_colour_of_its_box():
    picture = Image.new("RGB", (640, 480))
    named = ("a dog", [Box(10, 200, 90, 300)]), ("a red ball", [Box(400, 200, 500, 300)])
    drawn = draw_answer(picture, answer_about(640, 480, *named))
    caption = drawn.crop((0, 480, *drawn.size))
    _, red = where(caption, RED)
    _, blue = where(caption, BLUE)
    assert red.size
    assert red.max() < blue.min()  # "a dog" is written before "a red ball"


def test_same_phrase_has_one_colour_and_absent_phrases_have_none():
    box = Box(0, 0, 20, 20)
    drawn = draw_answer(Image.new("RGB", (640, 480)), answer_about(640, 480, ("A dog", [box]), ("a cat", [])))
    assert not where(drawn, BLUE)[0].size
    twice = [answer_about(640, 480, ("A dog", [box])), answer_about(640, 480, ("a  dog", [box]))]
    assert not where(draw_answer(Image.new("RGB", (640, 480)), twice), BLUE)[0].size


@pytest.mark.parametrize("size", [(1, 1), (60, 40), (224, 224), (4000, 2), (2, 4000), (8000, 60)])
def test_every_size_has_room_for_its_boxes_and_caption(size):
    width, height = size
    answer = answer_about(width, height, ("everything there is", [Box(0, 0, width, height)]))
    drawn = draw_answer(Image.new("RGB", size, "white"), answer, title="What is here?")
    assert max(drawn.size) >= 640
    assert min(drawn.size) >= 16 * 6
    label = np.asarray(drawn)
    rows, columns = where(label, RED)
    assert rows.size > 100
    assert columns.max() < drawn.width


REGIONS = [
    Point(30, 20),
    Box(5, 5, 30, 30),
    Scribble([(3, 3), (50, 30)]),
    Polygon([(5, 5), (50, 8), (20, 35)]),
    Mask(np.pad(np.ones((2, 2), bool), ((20, 18), (30, 28)))),
]


@pytest.mark.parametrize("region", REGIONS, ids=lambda region: type(region).__name__)
def test_regions_are_shown_and_numbered(region):
    picture = Image.new("RGB", (60, 40), "black")
    silent = Answer("", (), 60, 40, "fake", {})
    drawn = draw_answer(picture, silent, [region])
    assert drawn.size == (640, 427)  # nothing to say: no caption
    assert where(drawn, YELLOW)[0].size > 100
    two = draw_answer(picture, silent, [region, region])
    assert where(two, YELLOW)[0].size > where(drawn, YELLOW)[0].size


def test_region_that_does_not_fit_is_refused_and_one_outside_is_clipped():
    silent = Answer("", (), 60, 40, "fake", {})
    with pytest.raises(InputError):
        draw_answer(Image.new("RGB", (60, 40)), silent, [Mask(np.ones((3, 3), bool))])
    assert draw_answer(Image.new("RGB", (60, 40)), silent, [Box(-50, -50, 900, 900)]).size == (640, 427)


def test_picture_and_answer_are_left_as_they_were():
    picture = Image.new("RGB", (800, 600), "teal")
    before = picture.tobytes()
    draw_answer(picture, answer_about(800, 600, ("a", [Box(0, 0, 9, 9)])), REGIONS[:2])
    assert picture.tobytes() == before


def test_long_and_strange_texts_are_bounded():
    endless = draw_answer(Image.new("RGB", (64, 48)), Answer("word " * 50_000, (), 64, 48, "fake", {}))
    assert endless.height < 3000
    one_word = draw_answer(Image.new("RGB", (64, 48)), Answer("W" * 500, (), 64, 48, "fake", {}))
    ink = np.asarray(one_word)[490:].min(axis=(0, 2))
    assert ink[-8:].min() == 255  # broken over lines, not running out of the picture


@given(
    st.text(max_size=60),
    st.lists(st.tuples(*[st.floats(-10, 80)] * 4), max_size=4),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
)
@settings(max_examples=25, deadline=None)
def test_anything_can_be_drawn(text, boxes, size):
    text = text or "x"
    located = [Box(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
    drawn = draw_answer(Image.new("L", size), answer_about(*size, (text, located), text=text), title=text)
    assert drawn.mode == "RGB"


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1)])
def test_a_strip_is_drawn_on_a_strip(size):
    box = Box(0, 0, size[0], size[1])
    drawn = draw_answer(Image.new("RGB", size), answer_about(*size, ("a dog", [box])))
    assert max(drawn.size) >= 20_000
    assert drawn.width * drawn.height < 10_000_000  # once 187


def test_labels_leave_what_was_pointed_at_in_sight():
    picture, place = Image.new("RGB", (800, 600), (10, 20, 30)), Box(396, 296, 404, 304)
    drawn = draw_answer(picture, answer_about(800, 600, ("a dog", [place])), [Point(400, 300)])
    assert (np.asarray(drawn)[296:304, 396:404] == (10, 20, 30)).all()


def drawn(phrase: str) -> np.ndarray:
    answer = Answer(
        f"{phrase} here",
        (Mention(phrase, (0, len(phrase)), (LocatedBox((9, 9, 90, 90), (0.09,) * 4),)),),
        100,
        100,
    )
    return np.asarray(draw_answer(Image.new("RGB", (100, 100)), answer, title=phrase))


def test_letters_that_the_font_lacks_are_told_apart():
    assert (drawn("Kätzchen") == drawn("Katzchen")).all()
    assert (drawn("a\u00a0cat") == drawn("a cat")).all()
    assert (drawn("猫") == drawn("\\u732b")).all()
    assert (drawn("a 🐕") == drawn("a \\U0001f415")).all()


def test_a_long_text_of_such_letters_stays_on_the_drawing():
    caption = drawn("一只橙色的猫" * 20)
    assert (caption[-200:, -8:] == 255).all()
