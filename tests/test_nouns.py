import pytest
from hypothesis import given
from hypothesis import strategies as st

from openferret.nouns import head_noun, singular


@pytest.mark.parametrize(
    ("phrase", "head"),
    [
        ("A group of young men", "group"),
        ("two brown dogs with collars", "dog"),
        ("women", "woman"),
        ("a man wearing glasses", "man"),
        ("the bus", "bus"),
        ("her glasses", "glass"),
        ("black", "black"),
        ("On", "on"),
        ("", ""),
        ("...", ""),
    ],
)
def test_head_noun(phrase, head):
    assert head_noun(phrase) == head


@pytest.mark.parametrize("word", ["glass", "grass", "bus", "dress", "tennis", "dog", "is"])
def test_singular_words_stay(word):
    assert singular(word) == word


@given(st.text(max_size=60))
def test_any_text_has_a_lower_case_head_or_none(text):
    head = head_noun(text)
    assert head == head.lower()
    assert " " not in head
