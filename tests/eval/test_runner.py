import json

import pytest

from openferret.errors import InputError
from openferret.eval import runner
from openferret.eval.tasks import TASKS, load


def go(entities, model, out, **options):
    benchmark = load("flickr30k-entities", entities)
    return runner.run(
        benchmark, runner.plan(benchmark, options.pop("limit", None)), lambda: model, out, **options
    )


@pytest.fixture
def perfect(fake_model):
    truth = {
        "a child": "[100, 100, 800, 900]",
        "a red car": "[0, 0, 999, 999]",
        "two dogs": "[50, 100, 250, 900]",
    }
    return lambda **extra: fake_model(
        lambda question: ", ".join(f"{phrase} {truth[phrase]}" for phrase in question.phrases), **extra
    )


def test_a_run_writes_what_it_measured_and_with_what(entities, perfect, tmp_path):
    results = go(entities, perfect(), tmp_path / "out")
    assert results == json.loads((tmp_path / "out" / "results.json").read_text())
    headline = {one["rule"]: one for one in results["figures"] if one["name"] == "R@1, merged boxes"}
    assert (headline["official"]["value"], headline["strict"]["value"], headline["strict"]["n"]) == (1, 1, 4)
    assert results["model"] == {"name": "fake", "kind": "test", "digest": "abc", "settings": {}}
    assert (results["valid_percent"], results["pictures"], results["unanswered"]) == (100, 2, 0)
    assert results["environment"]["python"]
    assert len(results["prompt_hash"]) == 16
    gallery = json.loads((tmp_path / "out" / "gallery.json").read_text())
    assert all(case["jpeg"] for cases in gallery.values() for case in cases)


@pytest.mark.parametrize("dies_after", range(6))
def test_killed_and_resumed_a_run_asks_everything_once(entities, perfect, tmp_path, dies_after):
    whole = go(entities, perfect(), tmp_path / "whole")
    first = perfect(dies_after=dies_after)
    with pytest.raises(KeyboardInterrupt):
        go(entities, first, tmp_path / "out", batch=1)
    second = perfect()
    results = go(entities, second, tmp_path / "out", resume=True)
    asked = first.asked + second.asked
    assert len(asked) == len(set(asked)) == results["n"]
    assert results["figures"] == whole["figures"]
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == results["n"]


def test_a_picture_is_looked_at_once(entities, perfect, tmp_path):
    model = perfect()
    go(entities, model, tmp_path / "out", batch=1)
    assert model.looked == 2


def test_a_run_of_another_model_is_not_continued(entities, perfect, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        go(entities, perfect(dies_after=2), tmp_path / "out", batch=1)
    other = perfect()
    other.card = lambda: type(perfect().card())("other", "test", "xyz")
    with pytest.raises(InputError, match="another model"):
        go(entities, other, tmp_path / "out", resume=True)


def test_limit_takes_the_first_pictures(entities, perfect, tmp_path):
    model = perfect()
    results = go(entities, model, tmp_path / "out", limit=1)
    assert results["pictures"] == 1
    assert all(name.startswith("7") for name in model.asked)


def test_missing_pictures_are_left_out_and_counted(entities, perfect, tmp_path):
    (entities["images"] / "8.jpg").unlink()
    planned = runner.plan(load("flickr30k-entities", entities))
    assert [name.endswith("8.jpg") for name in planned.missing] == [True]
    results = go(entities, perfect(), tmp_path / "out")
    assert (results["left_out"], results["pictures"]) == (2, 1)


def test_a_damaged_picture_is_a_failure_that_counts_as_wrong(entities, perfect, tmp_path):
    (entities["images"] / "8.jpg").write_bytes(b"no picture")
    results = go(entities, perfect(), tmp_path / "out")
    assert results["unanswered"] == 2
    strict = next(one for one in results["figures"] if one["rule"] == "strict")
    assert strict["value"] == 0.75
    line = json.loads((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()[-1])
    assert "8.jpg" in line["error"]


def test_predictions_are_scored_without_a_model_and_give_the_same(entities, perfect, tmp_path):
    asked = go(entities, perfect(), tmp_path / "out")
    benchmark = load("flickr30k-entities", entities)
    planned = runner.plan(benchmark, look=False)
    scored = runner.score_file(benchmark, planned, tmp_path / "out" / "predictions.jsonl")
    assert scored["figures"] == asked["figures"]
    assert scored["model"] == asked["model"]


def test_predictions_of_half_the_questions_are_wrong_for_the_rest(entities, perfect, tmp_path):
    go(entities, perfect(), tmp_path / "out")
    file = tmp_path / "half.jsonl"
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if '"8' not in line[:20]))
    benchmark = load("flickr30k-entities", entities)
    scored = runner.score_file(benchmark, runner.plan(benchmark, look=False), file)
    strict = next(one for one in scored["figures"] if one["rule"] == "strict")
    assert strict["value"] == 0.75
    assert scored["unanswered"] == 2


def test_a_task_that_does_not_exist_is_named():
    with pytest.raises(InputError, match="there is no task 'coco'"):
        load("coco", {})
    assert len(TASKS) == 13
