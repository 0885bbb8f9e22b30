from __future__ import annotations

from openferret.train.stages.noun_forms import count_forms


def test_forms_are_counted_with_their_beginnings():
    phrases = ["A man", "a man in jeans", "the man", "two men", "men", "jeans", "blue jeans", "a jeans"]
    assert count_forms(phrases) == {
        "man": {"man": (2, 1), "men": (0, 2)},
        "jean": {"jeans": (1, 2)},
    }


def test_slips_are_left_out():
    assert count_forms(["a dog"] * 300 + ["dogs"] * 2 + ["a dg"]) == {"dog": {"dog": (300, 0)}, "dg": {}}
    assert count_forms(["", "of", "..."]) == {"of": {}}


def test_words_that_mostly_stand_before_nouns_are_no_nouns():
    assert count_forms(["blue", "blue", "a blue shirt", "the blue shirt", "blue jeans"])["blue"] == {}
