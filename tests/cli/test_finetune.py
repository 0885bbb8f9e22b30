"""`openferret finetune`: what is said of the data before anything is done."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from openferret.cli.main import app


@pytest.fixture
def given(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Image.fromarray(np.full((30, 40, 3), 40 * number, np.uint8)).save(photos / f"{number}.png")
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in range(3)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [4, 3, 10, 6], "iscrowd": 0} for n in range(3)
        ],
        "categories": [{"id": 1, "name": "acme_logo"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return tmp_path


def run(folder, *words):
    data = [] if "--data" in words else ["--data", str(folder / "boxes.json")]
    where = ["--images", str(folder / "photos"), "--out", str(folder / "out")]
    return CliRunner().invoke(app, ["finetune", *data, *where, *words])


def change(folder, what):
    content = json.loads((folder / "boxes.json").read_text())
    what(content)
    (folder / "boxes.json").write_text(json.dumps(content))


def test_the_table_tells_what_was_found(given):
    change(given, lambda content: content["annotations"].append({"id": 9, "image_id": 0, "category_id": 7}))
    done = run(given, "--check")
    assert done.exit_code == 0
    assert ["acme", "logo", "3", "3", "5.0", "%"] in [line.split() for line in done.stderr.splitlines()]
    assert "COCO: 3 pictures (0 without boxes), 0 missing, 0 damaged" in done.stderr
    assert "1 x unknown category" in done.stderr
    assert not (given / "out").exists()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            lambda content: content["categories"].append({"id": 2, "name": "cat"}),
            "a class has no boxes: 'cat'",
        ),
        (lambda content: content["annotations"].clear(), "no box that can be used"),
        (
            lambda content: content["images"].append(
                {"id": 9, "file_name": "gone.png", "width": 40, "height": 30}
            ),
            "1 of 4 pictures are missing: gone.png",
        ),
        (lambda content: content["images"].clear(), "no list `images` with pictures"),
        (lambda content: content.pop("categories"), "no list `categories`"),
    ],
)
def test_data_that_cannot_be_used_end_with_one_line_and_nothing_done(given, what, said):
    change(given, what)
    done = run(given)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (given / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "nowhere.json"], "does not exist: give a COCO json"),
        (["--held-out", "2"], "Invalid value for '--held-out'"),
        (["--model", "nowhere"], "there is no model in nowhere"),
    ],
)
def test_options_that_cannot_be_used_end_with_one_line(given, words, said):
    done = run(given, *words)
    assert done.exit_code in (1, 2)
    assert said in " ".join(done.stderr.split())
    assert not (given / "out").exists()


def test_help_needs_no_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from openferret.cli.main import app;"
        "assert CliRunner().invoke(app, ['finetune', '--help']).exit_code == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
