from __future__ import annotations

from time import process_time

import pytest

from openferret.generation.intents import Sought, asks_description, sought_thing


@pytest.mark.parametrize(
    ("question", "phrase", "kind"),
    [
        ("Is there a dog in the image?", "a dog", "exists"),
        ("is there a dining table in the picture", "a dining table", "exists"),
        ("Are there any dogs?", "dogs", "exists"),
        ("Is there a man on the bench?", "a man on the bench", "exists"),
        ("Can you see traffic light in this photo?", "a traffic light", "exists"),
        ("Does the image contain some water?", "water", "exists"),
        ("Where is the red cup?", "the red cup", "where"),
        ("Where's the MAN in the red shirt in the image?!", "the man in the red shirt", "where"),
        ("What is the location of a ball in the image?", "a ball", "where"),
    ],
)
def test_what_is_sought(question, phrase, kind):
    assert sought_thing(question) == Sought(phrase, kind)


@pytest.mark.parametrize(
    "question",
    [
        "",
        "What is [0]?",
        "Is there a dog near [0]?",
        "Is there a dog or a cat?",
        "Is there anything else in the image?",
        "Where is it?",
        "Is there not a dog?",
        "Why is there a dog in the image?",
        "Is there a dog? Where is the cat?",
        "Describe the picture.",
        "Is there " + "a very long thing " * 100,
    ],
)
def test_other_questions_are_left_to_the_language_model(question):
    assert sought_thing(question) is None


@pytest.mark.parametrize(
    "question", ["is there " + "in " * 60, "is there" + " " * 100_000, "where is " + "a in the " * 20]
)
def test_hostile_questions_take_no_time(question):
    began = process_time()
    sought_thing(question)
    assert process_time() - began < 0.5


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("Describe the picture.", True),
        ("please describe this image", True),
        ("What is in the picture?", True),
        ("What's happening in this photo?", True),
        ("What do you see?", True),
        ("What can you see in the image?", True),
        ("Write a short caption for the image.", True),
        ("Describe what you see.", True),
        ("Describe the dog in the picture.", False),
        ("What is in the cup?", False),
        ("What is [0]?", False),
        ("", False),
    ],
)
def test_what_asks_for_a_description(question, asked):
    assert asks_description(question) is asked
