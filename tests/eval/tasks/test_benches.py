"""Ferret-Bench and LLaVA-Bench, with a scripted judge that also misbehaves."""

import json
import re

import pytest

from openferret.errors import InputError
from openferret.eval.judge import Judge
from openferret.eval.tasks import load
from openferret.eval.tasks.judged import matched, point_at, told_to_judge
from openferret.eval.transport import ChatServer

CATEGORIES = ("refer_caption", "refer_reason", "ground_conv")


def value(score, name):
    return next(one.estimate.value for one in score.figures if one.name == name)


@pytest.fixture
def bench(tmp_path):
    rows = [
        {
            "question_id": 1,
            "image": "1.jpg",
            "category": "refer_desc",
            "text": "What is [0.1, 0.2, 0.3, 0.4]?",
        },
        {"question_id": 2, "image": "2.jpg", "category": "ground_conv", "text": "Where is the dog?"},
    ]
    answers = [
        {"question_id": 1, "text": "It is a red sign.", "category": "refer_desc"},
        {
            "question_id": 2,
            "text": "The dog [0.100, 0.100, 0.500, 0.500] is there.",
            "category": "ground_conv",
        },
    ]
    files = {}
    for name, lines in (("questions", rows), ("answers", answers), ("context", answers)):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        files[name] = [file]
    return {"images": tmp_path, **files}


def test_boxes_in_a_question_become_what_is_pointed_at(bench):
    first = load("ferret-bench", bench).questions[0]
    assert first.text == "What is [0]?"
    assert first.spots[0].numbers == (0.1, 0.2, 0.3, 0.4)
    text, spots = point_at("between [0.5, 0.25] and [0.100, 0.2, 0.3, 1]")
    assert text == "between [0] and [1]"
    assert [spot.kind for spot in spots] == ["point", "box"]


def test_without_a_judge(bench, reply):
    benchmark = load("ferret-bench", bench)
    replies = {
        "refer_desc 1": reply("It is a red sign."),
        "ground_conv 2": reply("The dog [100, 100, 500, 500] and a cat [700, 700, 900, 900]."),
    }
    score = benchmark.score(benchmark.questions, replies)
    assert value(score, "ROUGE-L, refer_desc") == pytest.approx(1)
    assert value(score, "box F1@0.5, ground_conv") == pytest.approx(2 / 3)
    assert not any(one.name.startswith("judge") for one in score.figures)
    assert not any("box F1" in one.name and "refer_desc" in one.name for one in score.figures)


def test_with_a_judge_the_figure_is_the_ratio_of_the_means(bench, reply, serve):
    def judge(_, body):
        first = body["messages"][1]["content"].partition("[Assistant 1]\n")[2]
        return "4 8" if first.startswith("MINE") else "8 4"

    with serve(judge) as (url, requests):
        options = {**bench, "judge": Judge(ChatServer(url, "judge", pause=0.01))}
        benchmark = load("ferret-bench", options)
        replies = {
            "refer_desc 1": reply("MINE a [1, 2, 3, 4]"),
            "ground_conv 2": reply("MINE dog [100, 100, 500, 500]"),
        }
        score = benchmark.score(benchmark.questions, replies)
    assert value(score, "judge, refer_desc: model / reference x 100") == pytest.approx(50)
    texts = [body["messages"][1]["content"] for _, body, _ in requests]
    assert "MINE a\n" in texts[0]  # boxes are taken out where the category is not about them
    assert re.search(r"MINE dog \[0\.10\d, 0\.10\d, 0\.50\d, 0\.50\d\]", texts[2])


@pytest.mark.parametrize("task", ["ferret-bench", "llava-bench"])
def test_the_judge_is_part_of_what_a_figure_depends_on(bench, task):
    judges = [Judge(ChatServer("http://127.0.0.1:9/v1", name)) for name in ("a", "b")]
    first, second = (load(task, {**bench, "judge": one}).prompts for one in judges)
    assert first["model"] == "a"
    assert first != second


def test_what_the_judge_fails_to_rate_is_told_and_not_averaged_in(bench, reply, serve):
    with serve(lambda number, _: ["8 4", "4 8", "I refuse."][min(number, 2)]) as (url, _):
        options = {**bench, "judge": Judge(ChatServer(url, "judge", pause=0.01))}
        benchmark = load("ferret-bench", options)
        replies = {"refer_desc 1": reply("MINE"), "ground_conv 2": reply("MINE")}
        score = benchmark.score(benchmark.questions, replies)
    assert value(score, "judge, refer_desc: model / reference x 100") == pytest.approx(50)
    assert value(score, "judge, ground_conv: model / reference x 100") is None
    assert any("ground_conv: 1 of 1 were not rated" in note for note in score.notes)


def test_a_missing_reply_is_not_sent_to_the_judge(bench, serve):
    with serve(lambda *_: "8 4") as (url, requests):
        benchmark = load("ferret-bench", {**bench, "judge": Judge(ChatServer(url, "judge"))})
        score = benchmark.score(benchmark.questions, {})
    assert requests == []
    assert any("no reply to rate" in note for note in score.notes)


def test_genuine_files(shared, tmp_path, reply):
    folder = shared / "data" / "formats" / "ferret_bench"
    files = {
        name: [folder / category / f"{file}.jsonl" for category in CATEGORIES]
        for name, file in (("questions", "question"), ("answers", "answer"), ("context", "context"))
    }
    benchmark = load("ferret-bench", {"images": tmp_path, **files, "rules": folder / "rule.json"})
    categories = {one.id.split()[0] for one in benchmark.questions}
    assert categories == {"refer_desc", "refer_reason", "ground_conv"}
    referring = [one for one in benchmark.questions if not one.id.startswith("ground")]
    assert all(one.spots for one in referring)
    replies = {one.id: reply("a dog [0, 0, 500, 500]") for one in benchmark.questions}
    assert benchmark.score(benchmark.questions, replies).figures
    llava = shared / "data" / "formats" / "llava_bench"
    options = {"questions": [llava / "qa90_questions.jsonl"], "answers": [llava / "qa90_gpt4_answer.jsonl"]}
    assert len(load("llava-bench", {"images": tmp_path, **options}).questions) == 90


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("questions", '{"question_id": 1}\n', "line 1 lacks"),
        ("questions", "x", "not JSON"),
        ("answers", '{"question_id": 9, "text": "a"}\n', "has no answer to question 1"),
        ("answers", '{"question_id": 1, "text": "a"}\n' * 2, "line 2 has the question_id of an earlier line"),
        ("answers", '{"question_id": 1}\n', "lacks question_id or text"),
    ],
)
def test_malformed_files_are_named(bench, name, content, match):
    bench[name][0].write_text(content)
    with pytest.raises(InputError, match=match):
        load("ferret-bench", bench)


def test_files_must_be_as_many(bench):
    with pytest.raises(InputError, match="as many --answers"):
        load("ferret-bench", {**bench, "answers": []})


def test_each_box_matches_once():
    full, left = (0, 0, 1, 1), (0, 0, 0.6, 1)
    assert matched([full, full], [full]) == 1
    assert matched([left, full], [full, left]) == 2
    assert matched([], [full]) == 0


def test_words_of_overlapping_mentions_are_told_once(reply):
    assert told_to_judge(reply("a dog [1, 2, 3, 4] runs"), True) == "a dog [0.002, 0.003, 0.004, 0.004] runs"
