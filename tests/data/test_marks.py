import pytest
from hypothesis import given
from hypothesis import strategies as st

from openferret.data.marks import (
    escape_marks,
    find_marks,
    grounded_phrases,
    plain_text,
    replace_marks,
    unescape_marks,
)

pieces = st.sampled_from([*"<>\\:0 abox", "<box:0>", "<\\phrase>", "<region:3>"])
texts = st.lists(pieces, max_size=12).map("".join)


@given(texts)
def test_escaped_words_have_no_marks_and_come_back(text):
    escaped = escape_marks(text)
    assert find_marks(escaped) == []
    assert unescape_marks(escaped) == text
    assert replace_marks(escaped, lambda kind, index: "!", phrase="!") == text


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("<phrase>Two dogs <box:0> <box:1> run.", [("Two dogs", (0, 1))]),
        ("A man <box:0> rides a bike <box:1>.", [("A man", (0,)), ("a bike", (1,))]),
        ("<box:0>", [("", (0,))]),
        ("<phrase>the one I mean <box:2> is red", [("the one I mean", (2,))]),
        ("<phrase>never closed", []),
    ],
)
def test_phrases_and_their_boxes(text, phrases):
    found = list(grounded_phrases(text))
    assert [(one.phrase, one.regions) for one in found] == phrases
    for one in found:
        assert plain_text(text)[slice(*one.span)] == one.phrase


def test_a_mark_takes_the_space_before_it():
    assert plain_text("Is <region:0> a cat <box:0>, or not?") == "Is a cat, or not?"
