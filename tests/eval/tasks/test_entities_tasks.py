"""The other tasks on Flickr30k Entities."""

import pytest

from openferret.errors import InputError
from openferret.eval.questions import Reply
from openferret.eval.tasks import load
from openferret.eval.tasks.entities import read_pictures
from openferret.eval.tasks.grounded_caption import frequent_nouns


def value(score, name, rule="strict"):
    return next(one.estimate.value for one in score.figures if (one.name, one.rule) == (name, rule))


def test_absent_phrases_come_from_other_pictures(entities):
    benchmark = load("absent", entities)
    by_id = {one.id for one in benchmark.questions}
    assert "7 absent two dogs" in by_id
    assert "8 present two dogs" in by_id
    assert not any("absent a child" in one for one in by_id if one.startswith("7"))
    assert load("absent", entities).questions == benchmark.questions


def test_absent_by_hand(entities, reply):
    benchmark = load("absent", entities)
    perfect = {
        one.id: reply("nothing" if " absent " in one.id else "it [0, 0, 9, 9]") for one in benchmark.questions
    }
    score = benchmark.score(benchmark.questions, perfect)
    assert value(score, 'F1 of "not in the picture"') == 1
    always = {one.id: reply("not in the picture") for one in benchmark.questions}
    score = benchmark.score(benchmark.questions, always)
    assert value(score, "recall") == 1
    absent = sum(" absent " in one.id for one in benchmark.questions)
    assert value(score, "precision") == pytest.approx(absent / len(benchmark.questions))
    failed = benchmark.score(benchmark.questions, {one.id: Reply(None) for one in benchmark.questions})
    assert value(failed, "accuracy") == 0
    assert failed.valid[0] == 0


def test_calibration_by_hand(entities, reply):
    benchmark = load("calibration", entities)
    replies = {
        "7 a child": reply("x [100, 100, 799, 899]", scores=[0.9]),
        "7 a red car": reply("x [0, 0, 9, 9]", scores=[0.3]),
        "8 two dogs": reply("x [50, 100, 250, 899]"),  # no score: left out
    }
    score = benchmark.score(benchmark.questions, replies)
    assert value(score, "ECE, 10 bins") == pytest.approx((2 * 0.1 + 0.3) / 3)
    assert value(score, "right at IoU 0.5") == pytest.approx(2 / 3)
    assert score.valid == (2, 3)
    assert sum(one.n for one in score.reliability) == 3


def test_calibration_of_nothing(entities):
    benchmark = load("calibration", entities)
    assert value(benchmark.score(benchmark.questions, {}), "ECE, 10 bins") is None


def test_calibration_takes_the_predictions_of_grounding(entities):
    strict = load("flickr30k-entities", {**entities, "rules": "strict"})
    assert strict.questions == load("calibration", entities).questions


def test_refer_caption_by_hand(entities, reply):
    benchmark = load("refer-caption", entities)
    # The child has two boxes and is not asked; the car and the dogs are, in three ways.
    assert len(benchmark.questions) == 6
    says = {"7": "A red car.", "8": "a pack of dogs"}
    replies = {one.id: reply(says[one.picture]) for one in benchmark.questions}
    score = benchmark.score(benchmark.questions, replies)
    assert value(score, "exact, point") == 0.5
    assert value(score, "head noun, box") == 0.5  # the head of "a pack of dogs" is pack
    assert value(score, "CIDEr-D, box") > 0
    baseline = next(one for one in score.figures if one.rule == "baseline")
    assert baseline.estimate.value == 0.5


def test_for_each_phrase_a_region_counts_as_often_as_it_is_named(entities, reply):
    with (entities["root"] / "Sentences" / "7.txt").open("a") as file:
        file.write("[/EN#3/vehicles/scene A car] stands there .\n")
    benchmark = load("refer-caption", entities)
    replies = {one.id: reply("a car" if one.picture == "7" else "a cat") for one in benchmark.questions}
    score = benchmark.score(benchmark.questions, replies)
    assert value(score, "head noun, box") == 0.5
    assert value(score, "head noun, box, each phrase") == pytest.approx(2 / 3)


def test_regions_do_not_depend_on_the_order_of_the_split(entities):
    first = {one.id: one for one in load("refer-caption", entities).questions}
    entities["split_file"].write_text("8\n7\n")
    assert {one.id: one for one in load("refer-caption", entities).questions} == first


def test_grounded_caption_by_hand(entities, reply):
    benchmark = load("grounded-caption", entities)
    replies = {
        "7": reply("A child [100, 100, 799, 899] by a red car [0, 0, 9, 9]."),
        "8": reply("Two dogs [50, 100, 250, 899] run."),
    }
    score = benchmark.score(benchmark.questions, replies)
    # child and dog are where they are, the car is not.
    assert value(score, "F1 of named and boxed things") == pytest.approx(2 / 3)
    assert value(score, "F1_all", "official") == pytest.approx(2 / 3)
    assert value(score, "BLEU-4", "official") == pytest.approx(1, abs=0.01)
    assert value(score, "CIDEr (coco-caption's: CIDEr-D)", "official") > 0
    nothing = benchmark.score(benchmark.questions, {})
    assert value(nothing, "F1_all", "official") == 0
    assert nothing.valid == (0, 2)


def test_f1_over_frequent_classes_leaves_the_others_out(entities, reply, tmp_path):
    other = tmp_path / "train.txt"
    other.write_text("8\n")
    assert frequent_nouns(read_pictures(entities["root"], other)) == {"dog"}
    benchmark = load("grounded-caption", {**entities, "frequent_in": other})
    replies = {"7": reply("A child [0, 0, 9, 9]."), "8": reply("Two dogs [50, 100, 250, 899] run.")}
    score = benchmark.score(benchmark.questions, replies)
    assert value(score, "F1_all", "official") < 0.5
    assert value(score, "F1_all over the 480 most frequent classes") == 1
    assert value(score, "F1_loc over the 480 most frequent classes") == 1
    with pytest.raises(InputError, match="gone"):
        load("grounded-caption", {**entities, "frequent_in": tmp_path / "gone.txt"})


@pytest.mark.parametrize(
    "task", ["absent", "calibration", "refer-caption", "grounded-caption", "flickr30k-entities"]
)
@pytest.mark.parametrize("said", ["", "x" * 1_000_000, "[" * 300_000, "no " * 100_000, "\x00\ud7ff"])
def test_any_answer_is_scored(entities, reply, task, said):
    benchmark = load(task, entities)
    score = benchmark.score(benchmark.questions, {one.id: reply(said) for one in benchmark.questions})
    assert score.figures
