import json
import subprocess
import sys

import pytest

from openferret.answer import parse_answer
from openferret.cli import eval_run
from openferret.eval.models import ModelCard
from openferret.eval.questions import Reply


class FakeModel:
    loads = 0

    @classmethod
    def load(cls, *_):
        cls.loads += 1
        return cls()

    def card(self):
        return ModelCard("fake", "test")

    def look(self, image):
        return image.size

    def answer(self, view, questions):
        return [Reply(parse_answer("No.", *view)) for _ in questions]


@pytest.fixture
def pope(tmp_path, photo, monkeypatch):
    FakeModel.loads = 0
    monkeypatch.setattr(eval_run, "FerretModel", FakeModel)
    photo("a.png")
    lines = [
        {"question_id": index, "image": "a.png", "text": f"Is there a {name} in the image?", "label": label}
        for index, (name, label) in enumerate([("dog", "yes"), ("cat", "no")])
    ]
    file = tmp_path / "coco_pope_random.json"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ["pope", "--questions", file, "--images", tmp_path]


def test_a_run_prints_its_figures_and_writes_them(run, pope, tmp_path):
    result = run("eval", *pope, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "accuracy, random" in result.stdout
    assert "50.00 %" in result.stdout
    assert json.loads((tmp_path / "out" / "results.json").read_text())["n"] == 2


def test_a_run_is_continued_only_when_asked(run, pope, tmp_path):
    run("eval", *pope, "--out", tmp_path / "out")
    result = run("eval", *pope, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "--resume" in result.stderr
    assert run("eval", *pope, "--out", tmp_path / "out", "--resume").exit_code == 0


def test_missing_pictures_end_with_3_before_a_model_is_loaded(run, pope, tmp_path):
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    file = pope[2]
    file.write_text(file.read_text() + file.read_text().replace("a.png", "b.png").replace('id": ', 'id": 9'))
    result = run("eval", *pope, "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "missing: " in result.stderr
    assert "a.png" in result.stderr
    assert FakeModel.loads == 0
    result = run("eval", *pope, "--out", tmp_path / "out", "--allow-missing")
    assert result.exit_code == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["left_out"] == 2


def test_predictions_are_scored_without_pictures_or_model(run, pope, tmp_path):
    run("eval", *pope, "--out", tmp_path / "out")
    (tmp_path / "a.png").unlink()
    result = run("eval", "score", pope[0], tmp_path / "out" / "predictions.jsonl", *pope[1:])
    assert result.exit_code == 0, result.output
    assert "accuracy, random" in result.stdout
    assert FakeModel.loads == 1


def test_questions_without_a_prediction_are_told(run, pope, tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    result = run("eval", "score", pope[0], tmp_path / "none.jsonl", *pope[1:])
    assert "have no answer and count as wrong" in result.stderr


def test_two_runs_are_compared_in_pairs(run, pope, tmp_path):
    run("eval", *pope, "--out", tmp_path / "out")
    file = tmp_path / "out" / "predictions.jsonl"
    result = run("eval", "score", pope[0], file, *pope[1:], "--against", file)
    assert result.exit_code == 0, result.output
    assert "+0.00 points" in result.stdout
    assert "[+0.00, +0.00]" in result.stdout
    assert "same words: " in result.stderr


def test_a_report_of_a_run(run, pope, tmp_path):
    run("eval", *pope, "--out", tmp_path / "out")
    result = run("eval", "report", tmp_path / "out", "--out", tmp_path / "report")
    assert result.exit_code == 0
    assert (tmp_path / "report" / "report.html").is_file()


def test_leaks_end_with_3(run, photo, tmp_path):
    photo("train/1.png")
    photo("val/COCO_val2014_000000000001.png")
    result = run("eval", "leaks", tmp_path / "train", tmp_path / "val")
    assert result.exit_code == 3
    assert "COCO_val2014_000000000001.png" in result.stdout
    (tmp_path / "none.txt").write_text("77\n")
    assert run("eval", "leaks", tmp_path / "none.txt", tmp_path / "val").exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--questions", "no.json", "--images", ".", "--out", "out"], "no.json"),
        (["--images", ".", "--out", "out"], "either"),
        (["--out", "out"], "images"),
        (["--images", ".", "--questions", "q.json"], "out"),
        (["--images", ".", "--questions", "q", "--out", "o", "--endpoint", "nowhere"], "http"),
        (
            ["--images", ".", "--questions", "q", "--out", "o", "--endpoint", "http://h", "--dialect", "x"],
            "dialect",
        ),
        (
            [
                "--images",
                ".",
                "--questions",
                "q",
                "--out",
                "o",
                "--endpoint",
                "http://h",
                "--endpoint-key-env",
                "NOPE_X",
            ],
            "NOPE_X",
        ),
        (["--images", ".", "--questions", "q", "--out", "o", "--batch", "0"], "batch"),
        (["--images", ".", "--questions", "q", "--out", "o", "--model", "hf:nowhere"], "not a folder"),
    ],
)
def test_bad_options_end_with_2_and_one_line(refuse, words, said):
    assert said in refuse("eval", "pope", *words).lower() or said in refuse("eval", "pope", *words)


def test_tasks_are_listed_and_each_explains_itself(run):
    names = [line.split()[0] for line in run("eval", "list").stdout.splitlines()]
    assert len(names) == 13
    for name in names:
        assert run("eval", name, "--help").exit_code == 0
        assert run("eval", "score", name, "--help").exit_code == 0
    assert "MISSING" not in run("eval", "pope", "--help").stdout


def test_listing_loads_neither_torch_nor_numpy():
    code = (
        "import sys; from openferret.cli.main import app\n"
        "try: app(['eval', 'list'])\n"
        "except SystemExit: pass\n"
        "print({'torch', 'numpy', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
