import pytest
from hypothesis import given
from hypothesis import strategies as st

from openferret.phrases import last_noun_phrase, without_determiner


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("a man", "a man"),
        ("a man is riding a red bike", "a red bike"),
        ("a man riding bikes", "bikes"),
        ("There is a small white dog", "a small white dog"),
        ("The cat is located at", "The cat"),
        ("The dog:", "The dog"),
        ("behind him stand two of the three tall trees", "the three tall trees"),
        ("3 people", "3 people"),
        ("a cat, dogs", "dogs"),
        ("in front of her house", "her house"),
        ("a black and white dog", "a black and white dog"),
        ("a dog and white sheep", "white sheep"),
        ("a woman 's red hat", "a woman 's red hat"),
        ("the man's t-shirt", "the man's t-shirt"),
        ("a group of people", "a group of people"),
        ("first line\nsecond", "second"),
        ("riding", "riding"),
        ("", ""),
        (" ... ", ""),
    ],
)
def test_phrases_end_where_a_box_begins(text: str, phrase: str) -> None:
    start, end = last_noun_phrase(text)
    assert text[start:end] == phrase


@given(st.text())
def test_any_text_has_a_span_inside(text: str) -> None:
    start, end = last_noun_phrase(text)
    assert 0 <= start <= end <= len(text)
    assert text[start:end] == text[start:end].strip()


@pytest.mark.parametrize(
    ("phrase", "name"),
    [("A Man", "man"), ("the two  dogs", "dogs"), ("two", "two"), ("", ""), ("3 cats", "cats")],
)
def test_categories_have_no_determiner(phrase: str, name: str) -> None:
    assert without_determiner(phrase) == name
