from __future__ import annotations

import pytest
import torch
from PIL import Image

from openferret.generation.choosing import Choosing, choosing
from openferret.generation.decode import Decoding, decode
from openferret.generation.intents import offered_choice
from openferret.generation.prefix import Continuation, encode_prefix
from openferret.generation.questions import write_question
from openferret.regions import Box

QUESTION = "Is the object [0] of the image a dog or a ball?"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (QUESTION, ("dog", "ball")),
        ("is [0] an apple or a traffic light", ("apple", "traffic light")),
        ("What is [0], a man or a woman?", ("man", "woman")),
        ("Region [0]: is it a dog or a cat?", ("dog", "cat")),
        ("Region [0]: is it older than a dog or a cat?", None),
        ("Is it a dog or a cat?", None),
        ("Is [0] a dog?", None),
        ("Is there a dog or a ball?", None),
        ("Is [0] red or blue?", None),
        ("Is [0] a dog or a ball? And what is [1]?", None),
        ("What is [0] doing with a dog or a ball?", None),
        ("Is the object [0] a dog or a ball?", ("dog", "ball")),
        ("Is [0] a very long name of a thing here or a dog?", None),
        ("Is [0] a " + "dog " * 200 + "or a ball?", None),
    ],
)
def test_a_choice_is_read_from_a_question(text, found):
    assert offered_choice(text) == found


def test_only_where_the_answers_part_is_the_probability_shared_anew():
    choice = Choosing((1, 2, 9), (1, 3, 9), log_odds=8.0)
    logits = torch.tensor([0.0, 5.0, 1.0, 2.0, 0.5])
    for written in ([], [0], [1, 2], [1, 3], [1, 2, 9]):
        same = logits.clone()
        choice.lay_over(written, same)
        assert torch.equal(same, logits)
    both = logits.clone()
    choice.lay_over([1], both)
    assert both[2] > both[3]
    assert torch.allclose(both.softmax(0)[[0, 1, 4]], logits.softmax(0)[[0, 1, 4]])
    other = logits.clone()
    Choosing((1, 2), (1, 3), log_odds=-8.0).lay_over([1], other)
    assert other[3] > other[2]
    beyond = logits.clone()
    Choosing((1,), (1, 3), log_odds=8.0).lay_over([1], beyond)
    assert torch.equal(beyond, logits)
    ending = torch.tensor([0.0, *[-torch.inf] * 4])  # as where an answer has to end
    forced = ending.clone()
    choice.lay_over([1], forced)
    assert torch.equal(forced, ending)


def test_a_namer_that_does_not_know_both_says_nothing(tiny):
    processor, names = tiny.loaded("kit").processor, ("dog", "ball", "man")
    nouns = torch.tensor([0.7, 0.1, 0.2])
    known = choosing(processor, names, nouns, ("red dog", "ball"))
    assert known is not None
    assert known.log_odds == pytest.approx(1.9459, abs=1e-3)
    assert choosing(processor, names, nouns, ("dog", "yak")) is None
    assert choosing(processor, names, nouns, ("red dog", "dog")) is None
    assert choosing(processor, (), nouns, ("dog", "ball")) is None


@pytest.mark.parametrize("likely", ["dog", "ball"])
def test_the_namer_decides_which_of_two_is_written(tiny, monkeypatch, likely):
    loaded = tiny.loaded("kit")
    model, processor = loaded.model, loaded.processor
    names = ("dog", "ball", "man", "red", "box", "one", "picture")
    tokens = [processor.tokenize(name)[0] for name in names]
    monkeypatch.setattr(model.config, "nouns", names)
    forms = tuple((number, (one,), (one,), False, 0.5, 0.5) for number, one in enumerate(tokens))
    monkeypatch.setattr(model.config, "noun_forms", forms)
    certain = torch.full((1, 7), 1e-6)
    certain[0, names.index(likely)] = 1.0
    monkeypatch.setattr(Continuation, "nouns", lambda *_: certain)
    # A random model says neither: here it wants to say either, and has no preference.
    answers = {name: processor.tokenize(f"a {name}") for name in ("dog", "ball")}
    place = next(i for i, (x, y) in enumerate(zip(*answers.values(), strict=False)) if x != y)
    shared = answers["dog"][:place]
    original = Continuation.append

    def pushed(self, given, regions=()):
        logits = original(self, given, regions)
        step = self.__dict__.setdefault("steps", 0)
        self.steps = step + 1
        wanted = [shared[step]] if step < place else [one[place] for one in answers.values()]
        logits[:, wanted] = 50.0
        return logits

    monkeypatch.setattr(Continuation, "append", pushed)
    image = Image.new("RGB", (60, 40), "white")
    question = write_question(processor, QUESTION, [Box(0, 0, 30, 20)], image.size)
    assert question.choice == ("dog", "ball")
    prefix = encode_prefix(model, processor, image)
    written = decode(model, processor, prefix, [question], Decoding(max_new_tokens=place + 1))[0]
    assert written.ids[place] == answers[likely][place]
