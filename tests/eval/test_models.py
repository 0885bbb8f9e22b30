from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from openferret.answer import Answer, LocatedBox, Mention
from openferret.errors import InputError
from openferret.eval.models import FerretModel, folder_digest
from openferret.eval.questions import Question, Spot
from openferret.predictor import Ferret
from openferret.regions import Box, Point


@dataclass
class FakeScene:
    """Stands for Ferret and Scene."""

    name: str = "fake"
    width: int = 100
    height: int = 50
    calls: list = field(default_factory=list)

    def encode(self, image):
        return self

    def refer_many(self, regions, question=None):
        self.calls.append(("refer", regions, question))
        return [Answer(f"thing {index}", (), 100, 50) for index in range(len(regions))]

    def ask(self, question, regions=()):
        self.calls.append(("ask", question, regions))
        return Answer("yes", (), 100, 50)

    def describe(self, drafts=1):
        self.calls.append(("describe", drafts))
        return Answer("a dog", (), 100, 50)

    def ground(self, phrases, merge=False, threshold=None):
        self.calls.append(("ground", list(phrases), merge, threshold))
        if "bad" in phrases:
            raise InputError("a phrase that cannot be used")
        box = LocatedBox.of(Box(0, 0, 50, 25), 100, 50, 0.5)
        mentions = [Mention(one, (0, 0), (box,) if one != "unicorn" else ()) for one in phrases]
        return Answer("found", tuple(mentions), 100, 50)


@pytest.fixture
def ferret(tmp_path):
    scene = FakeScene()
    return scene, FerretModel(scene, tmp_path)


def ground(number, *phrases, **how):
    return Question(f"g{number}", "p", "ground", phrases=phrases, **how)


def test_phrases_of_one_kind_are_asked_together_and_answered_apart(ferret):
    scene, model = ferret
    asked = [ground(0, "a dog", merge=True), ground(1, "unicorn", merge=True), ground(2, "a cat")]
    replies = model.answer(scene, asked)
    assert scene.calls == [
        ("ground", ["a dog", "unicorn"], True, None),
        ("ground", ["a cat"], False, None),
    ]
    assert [len(reply.boxes) for reply in replies] == [1, 0, 1]
    assert replies[0].answer.mentions[0].phrase == "a dog"


def test_a_forced_question_has_no_threshold(ferret):
    scene, model = ferret
    model.answer(scene, [ground(0, "a dog", forced=True)])
    assert scene.calls[0][3] == 0.0


def test_regions_are_in_pixels_of_the_picture(ferret):
    scene, model = ferret
    asked = [
        Question("a", "p", "ask", "What is [0]?", spots=(Spot("box", (0.1, 0.2, 0.3, 0.4)),)),
        Question("b", "p", "ask", "What is [0]?", spots=(Spot("point", (0.5, 0.5)),)),
        Question("c", "p", "ask", "Is there a dog?"),
        Question("d", "p", "describe"),
    ]
    replies = model.answer(scene, asked)
    assert scene.calls[0] == ("refer", [Box(10, 10, 30, 20), Point(50, 25)], "What is [0]?")
    assert scene.calls[1] == ("ask", "Is there a dog?", [])
    assert [reply.text for reply in replies] == ["thing 0", "thing 1", "yes", "a dog"]


def test_a_description_has_as_many_drafts_as_were_wanted(ferret, tmp_path):
    scene, model = ferret[0], FerretModel(ferret[0], tmp_path, drafts=9)
    model.answer(scene, [Question("d", "p", "describe")])
    assert scene.calls == [("describe", 9)]


def test_a_question_that_cannot_be_asked_is_a_failed_reply(ferret):
    scene, model = ferret
    replies = model.answer(scene, [ground(0, "bad"), Question("d", "p", "describe")])
    assert replies[0].error == "a phrase that cannot be used"
    assert replies[1].text == "a dog"


def test_a_digest_changes_with_the_weights(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"1")
    first = folder_digest(tmp_path)
    (tmp_path / "notes.md").write_text("no weights")
    assert folder_digest(tmp_path) == first
    (tmp_path / "model.safetensors").write_bytes(b"2")
    assert folder_digest(tmp_path) != first


def test_a_spot_with_too_few_numbers_is_refused():
    with pytest.raises((InputError, TypeError, ValueError)):
        Spot("box", (0.1,)).region(*Image.new("RGB", (3, 3)).size)


def test_a_model_with_a_locator_ranks_and_another_does_not(tiny):
    asked = [
        ground(0, "a dog", merge=True, forced=True, ranks=4),
        ground(1, "a ball", "a dog", merge=True, ranks=4),
    ]
    for name, ranks in (("kit", True), ("paper", False)):
        model = FerretModel(Ferret(tiny.loaded(name)), Path())
        one, two = model.answer(model.look(Image.new("RGB", (60, 40), "red")), asked)
        assert [len(several) > 0 for several in (*one.ranked, *two.ranked)] == [True] * (3 if ranks else 0)
        if ranks:
            assert one.ranked[0][0] == pytest.approx(one.boxes[0], abs=1e-5)
            assert len(one.ranked[0]) <= 4
