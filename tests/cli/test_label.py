import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from filelock import FileLock
from typer.testing import CliRunner

from openferret.cli.commands import OneLineErrors
from openferret.cli.label import label

EXAMPLES = Path(__file__).parents[2] / "examples" / "pictures"


@pytest.fixture
def run(ferret, tmp_path):
    """Run `openferret label` into `tmp_path / "out"`; the model is the fake `ferret`."""
    app = typer.Typer(cls=OneLineErrors, pretty_exceptions_enable=False)
    app.command()(label)
    app.callback()(lambda: None)

    def invoke(*words, out=tmp_path / "out"):
        given = ["label", *(str(word) for word in words), "--out", str(out)]
        result = CliRunner().invoke(app, given)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def folder(photo):
    for name in ("a", "b", "c"):
        photo(f"pictures/{name}.png")
    return photo("pictures/d.png").parent


def test_a_folder_becomes_a_data_set_with_a_review(run, folder, tmp_path, ferret):
    done = run(folder, "--names", "cat,unicorn")
    assert done.exit_code == 0, done.output
    coco = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [one["name"] for one in coco["categories"]] == ["cat", "unicorn"]
    assert [one["file_name"] for one in coco["images"]] == ["a.png", "b.png", "c.png", "d.png"]
    assert {one["category_id"] for one in coco["annotations"]} == {1}
    assert (tmp_path / "out" / "review" / "index.html").is_file()
    assert (tmp_path / "out" / "review" / "sheet-001.png").is_file()
    assert sum(call[0] == "encode" for call in ferret.calls) == 4
    assert ["cat", "4", "4", "0.75", "0.75"] in [line.split() for line in done.stdout.splitlines()]
    assert ["unicorn", "0", "0", "-", "-"] in [line.split() for line in done.stdout.splitlines()]


def test_bad_pictures_are_skipped_with_exit_status_3(run, folder, tmp_path):
    (folder / "bb.png").write_text("no picture")
    done = run(folder, "--names", "cat", "--format", "yolo")
    assert done.exit_code == 3
    assert "skipped: " in done.stderr
    assert "4 labelled, 1 failed" in done.stderr
    labels = sorted(path.name for path in (tmp_path / "out" / "labels").iterdir())
    assert labels == ["a.txt", "b.txt", "c.txt", "d.txt"]


def test_resumed_in_another_format_nothing_is_asked_again(run, folder, tmp_path, ferret):
    run(folder, "--names", "cat")
    done = run(
        folder, "--names", "cat", "--format", "label-studio", "--resume", "--image-prefix", "https://x/"
    )
    assert done.exit_code == 0
    assert "4 already there" in done.stderr
    assert len(ferret.loads) == 1
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert tasks[0]["data"]["image"] == "https://x/a.png"


def test_labels_that_are_there_are_not_mixed_with_others(run, folder):
    run(folder, "--names", "cat")
    again = run(folder, "--names", "cat")
    assert again.exit_code == 2
    assert "--resume" in again.stderr
    other = run(folder, "--names", "cat,dog", "--resume")
    assert other.exit_code == 2
    assert "other names" in other.stderr


def test_two_at_once_in_one_folder_are_refused(run, folder, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        done = run(folder, "--names", "cat")
    assert done.exit_code == 2
    assert "at work" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--names", "cat", "--format", "pascal"], "coco, yolo, label-studio"),
        (["--names", ","], "--names is empty"),
        (["--names", "cat", "--threshold", "2"], "--threshold"),
        (["--names", "cat", "--image-prefix", "x"], "label-studio"),
        (["--names", "cat", "--device", "gpu"], "--device"),
        (["--names", __file__], "is a file: give what it holds"),
        ([], "--names"),
    ],
)
def test_what_cannot_work_is_refused_before_a_model_is_loaded(run, folder, ferret, tmp_path, words, said):
    done = run(folder, *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert ferret.loads == []
    assert not (tmp_path / "out").exists()


def test_no_review_if_none_is_wanted(run, folder, tmp_path):
    assert run(folder, "--names", "cat", "--review", "0").exit_code == 0
    assert not (tmp_path / "out" / "review").exists()


def test_a_place_that_cannot_be_written_is_said_in_one_line(run, folder):
    done = run(folder, "--names", "cat", out=folder / "a.png")
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr


def test_help_needs_no_torch():
    code = "import sys; import openferret.cli.label, openferret.cli.mcp; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_kit_labels_its_own_examples(tmp_path):
    code = (
        "import typer; from openferret.cli.label import label;"
        "app = typer.Typer(); app.command()(label); app(prog_name='label')"
    )
    words = [EXAMPLES, "--names", "cat,cup", "--out", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True
    )
    assert "3 labelled" in done.stderr
    coco = json.loads((tmp_path / "out" / "annotations.json").read_text())
    images = {one["id"]: one["file_name"] for one in coco["images"]}
    found = {(images[one["image_id"]], one["phrase"]) for one in coco["annotations"]}
    assert {("chelsea.jpg", "cat"), ("coffee.jpg", "cup")} <= found
