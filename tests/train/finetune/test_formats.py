"""Boxes of each format become a model, by the command, and each verb opens it."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from openferret.cli.main import app

PICTURES = 4
OPTIONS = ("--steps", 1, "--language-steps", 1, "--held-out", 0.3, "--threads", 1)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(PICTURES):
        noise = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
        Image.fromarray(noise).resize((80, 60)).save(folder / f"{number}.png")
    return folder


def coco(photos, tmp_path):
    content = {
        "images": [
            {"id": one, "file_name": f"{one}.png", "width": 80, "height": 60} for one in range(PICTURES)
        ],
        "categories": [{"id": 1, "name": "red dog"}],
        "annotations": [
            {"id": one, "image_id": one, "category_id": 1, "bbox": [8, 6, 24, 18], "iscrowd": 0}
            for one in range(PICTURES)
        ],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return tmp_path / "boxes.json", photos


def yolo(photos, tmp_path):
    home = tmp_path / "yolo"
    for number in range(PICTURES):
        split = "val" if number == PICTURES - 1 else "train"
        for kind in ("images", "labels"):
            (home / kind / split).mkdir(parents=True, exist_ok=True)
        (photos / f"{number}.png").rename(home / "images" / split / f"{number}.png")
        (home / "labels" / split / f"{number}.txt").write_text("0 0.25 0.25 0.3 0.3\n")
    (home / "data.yaml").write_text("names: [red_dog]\ntrain: images/train\nval: images/val\n")
    return home / "data.yaml", home


def label_studio(photos, tmp_path):
    value = {"x": 10, "y": 10, "width": 30, "height": 30, "rectanglelabels": ["red dog"]}
    size = {"original_width": 80, "original_height": 60}
    tasks = [
        {
            "id": one,
            "data": {"image": f"/data/upload/1/{one}.png"},
            "annotations": [{"result": [{"id": "r", "type": "rectanglelabels", "value": value, **size}]}],
        }
        for one in range(PICTURES)
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    return tmp_path / "export.json", photos


def openferret(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    "write",
    [coco, *(pytest.param(one, marks=pytest.mark.slow) for one in (yolo, label_studio))],
    ids=lambda write: write.__name__,
)
def test_each_format_becomes_a_model_that_each_verb_opens(write, photos, start, tmp_path, monkeypatch):
    known = ["dog", "ball", "man", "box", "picture", "region", "image"]
    monkeypatch.setattr("openferret.train.finetune.start.kit_nouns", lambda: known)
    data, images = write(photos, tmp_path)
    out = tmp_path / "mine"
    said = openferret(
        "finetune", "--data", data, "--images", images, "--out", out, "--model", start, *OPTIONS
    )
    assert "red dog" in said
    assert "this will take about" in said
    assert "right, by box" in said
    model = ("--model", out / "model")
    picture = next(images.rglob("*.png"))
    assert openferret("ground", picture, "a red dog", *model)
    if write is not coco:
        return  # what follows is the folder's, whatever it was made from
    assert openferret("refer", picture, "--box", "8,6,32,24", *model)
    assert openferret("ask", picture, "What is [0]?", "--point", "12,10", *model)
    assert openferret("describe", picture, *model)
    openferret("detect", picture, *model)
    openferret("label", photos, "--names", "red dog", "--out", tmp_path / "labels", *model)
    assert (tmp_path / "labels").is_dir()
    result = CliRunner().invoke(app, ["chat", str(picture), *map(str, model)], input="What is this?\n")
    assert result.exit_code == 0, result.output
