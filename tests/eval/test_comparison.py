import json

import pytest

from openferret.errors import InputError
from openferret.eval import runner
from openferret.eval.comparison import compare_files
from openferret.eval.tasks import load

TRUTH = {
    "a child": "[100, 100, 800, 900]",
    "a red car": "[0, 0, 999, 999]",
    "two dogs": "[50, 100, 250, 900]",
}


@pytest.fixture
def benchmark(entities):
    return load("flickr30k-entities", entities)


@pytest.fixture
def predictions(benchmark, fake_model, tmp_path):
    """Runs a model that knows some boxes and gives a corner for the rest: its predictions file."""

    def ask(name, known):
        def say(question):
            boxes = {
                phrase: TRUTH[phrase] if phrase in known else "[0, 0, 9, 9]" for phrase in question.phrases
            }
            return ", ".join(f"{phrase} {box}" for phrase, box in boxes.items())

        runner.run(benchmark, runner.plan(benchmark), lambda: fake_model(say), tmp_path / name)
        return tmp_path / name / "predictions.jsonl"

    return ask


def headline(comparison):
    return next(
        one for one in comparison.differences if (one.name, one.rule) == ("R@1, merged boxes", "strict")
    )


def test_the_same_replies_differ_by_nothing_for_certain(benchmark, predictions):
    file = predictions("one", set(TRUTH))
    found = compare_files(benchmark, runner.plan(benchmark), file, file)
    assert found.same_words == found.questions > 0
    assert all(one.difference == one.low == one.high == 0 for one in found.differences)
    assert all(one.rule != "baseline" for one in found.differences)


def test_what_the_second_loses_is_negative_and_written(benchmark, predictions, tmp_path):
    better, worse = predictions("better", set(TRUTH)), predictions("worse", {"a child", "a red car"})
    found = compare_files(benchmark, runner.plan(benchmark), better, worse, tmp_path)
    line = headline(found)
    assert (line.first, line.second, line.difference, line.n) == (1, 0.75, -0.25, 4)
    assert line.low <= line.difference <= line.high <= 0
    assert found.same_words == found.questions  # only a box is another one
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert written["task"] == "flickr30k-entities"
    assert written["same_words"] == found.same_words
    back = compare_files(benchmark, runner.plan(benchmark), worse, better)
    assert headline(back).difference == 0.25


def test_an_interval_is_paired(benchmark, predictions):
    """Both runs fail at one picture: what they share does not widen the interval of their difference."""
    first, second = predictions("first", {"two dogs"}), predictions("second", {"two dogs"})
    line = headline(compare_files(benchmark, runner.plan(benchmark), first, second))
    assert 0 < line.first < 1
    assert (line.low, line.high) == (0, 0)


def test_a_file_of_other_questions_is_refused(benchmark, predictions, tmp_path):
    file = predictions("one", set(TRUTH))
    other = tmp_path / "other.jsonl"
    other.write_text("")
    with pytest.raises(InputError):
        compare_files(benchmark, runner.plan(benchmark), file, other)
