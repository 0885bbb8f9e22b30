import pytest
from hypothesis import given
from hypothesis import strategies as st

from openferret.data.words import english
from openferret.data.words.predicates import read_predicate, statement


@pytest.mark.parametrize(
    ("noun", "said"),
    [
        ("dog", "a dog"),
        ("hour glass", "an hour glass"),
        ("umbrella", "an umbrella"),
        ("unicorn", "a unicorn"),
        ("two dogs", "two dogs"),
        ("a dog", "a dog"),
        ("pants", "pants"),
        ("glass", "a glass"),
        ("bus", "a bus"),
        ("people", "people"),
        ("grass", "grass"),
        ("anthill", "an anthill"),
        ("notebook", "a notebook"),
    ],
)
def test_articles(noun, said):
    assert english.with_article(noun) == said


@pytest.mark.parametrize(
    ("noun", "many"),
    [
        *[("box", "boxes"), ("woman", "women"), ("child", "children"), ("fire truck", "fire trucks")],
        *[("policeman", "policemen"), ("scissors", "scissors"), ("leaf", "leaves"), ("toy", "toys")],
        *[("glass of wine", "glasses of wine"), ("wine glass", "wine glasses"), ("skis", "skis")],
    ],
)
def test_plurals(noun, many):
    assert english.plural(noun) == many
    assert english.plural(many) == many
    assert english.is_plural(many)


def test_counting():
    assert english.counted("person", 1) == "a person"
    assert english.counted("wine glass", 3) == "three wine glasses"


@pytest.mark.parametrize(
    ("subject", "predicate", "thing", "said"),
    [
        ("man", "riding a", "bike", "the man is riding the bike"),
        ("men", "wears", "hat", "the men wear a hat"),
        ("car", "has", "wheel", "the car has a wheel"),
        ("cup", "ON", "table", "the cup is on the table"),
        ("wheel", "of", "car", "the wheel is part of the car"),
        ("shelf", "filled with", "books", "the shelf is filled with the books"),
        ("dogs", "are next to", "dogs", "the dogs are next to other dogs"),
        ("dog", "beside", "dog", "the dog is beside another dog"),
        ("boy", "carry", "bag", "the boy carries a bag"),
    ],
)
def test_relations_become_sentences(subject, predicate, thing, said):
    assert statement(subject, read_predicate(subject, predicate), thing) == said


def test_questions_agree():
    assert read_predicate("girls", "wearing").question == "are the girls wearing"
    assert read_predicate("girl", "holds").question == "does the girl hold"


@pytest.mark.parametrize("predicate", ["", "a", "and", "12", "x y z", "!!"])
def test_what_is_no_predicate_makes_none(predicate):
    assert read_predicate("man", predicate) is None


@given(st.text(max_size=40))
def test_any_words_can_be_said(text):
    english.with_article(text), english.with_the(text), english.plural(text), english.counted(text, 2)
    english.sentence(text), english.lower_first(text), read_predicate(text, text)
    assert english.tidy(english.tidy(text)) == english.tidy(text)
