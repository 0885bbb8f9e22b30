import json
import os
from dataclasses import replace

import pytest
from defusedxml.ElementTree import fromstring

from openferret.errors import InputError
from openferret.labelling import writers
from openferret.labelling.writers import check_picture_names, label_config, write_labels

NAMES = ("unicorn", "STOP sign", "a cat")


@pytest.fixture
def pictures(labelled):
    return [
        labelled("b c.png", {"unicorn": [], "STOP sign": [0.5], "a cat": [0.9, 0.3]}),
        labelled("deep/a.png", {"unicorn": [], "STOP sign": [], "a cat": []}),
    ]


def test_coco_has_every_name_in_order_and_every_picture(tmp_path, pictures):
    (file,) = write_labels(tmp_path, "coco", NAMES, pictures)
    coco = json.loads(file.read_text())
    assert [(one["id"], one["name"]) for one in coco["categories"]] == [
        (1, "unicorn"),
        (2, "STOP sign"),
        (3, "a cat"),
    ]
    assert [one["file_name"] for one in coco["images"]] == ["b c.png", "deep/a.png"]
    assert [(one["category_id"], one["score"]) for one in coco["annotations"]] == [
        (2, 0.5),
        (3, 0.9),
        (3, 0.3),
    ]
    assert coco["annotations"][0]["bbox"] == [1, 2, 20, 28]


def test_coco_opens_in_pycocotools(tmp_path, pictures, capsys):
    coco = pytest.importorskip("pycocotools.coco")
    (file,) = write_labels(tmp_path, "coco", NAMES, pictures)
    opened = coco.COCO(file)
    capsys.readouterr()
    assert len(opened.getAnnIds(imgIds=[1], catIds=[3])) == 2


def test_yolo_numbers_follow_the_names(tmp_path, pictures):
    labels, classes, data = write_labels(tmp_path, "yolo", NAMES, pictures)
    lines = (labels / "b c.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "2"]
    assert lines[0].split()[1:] == ["0.183333", "0.400000", "0.333333", "0.700000"]
    assert (labels / "deep" / "a.txt").read_text() == ""
    assert classes.read_text().splitlines() == list(NAMES)
    assert '  1: "STOP sign"' in data.read_text()


def test_yolo_labels_of_an_earlier_run_are_replaced(tmp_path, pictures):
    write_labels(tmp_path, "yolo", NAMES, pictures)
    write_labels(tmp_path, "yolo", NAMES, pictures[1:])
    assert sorted(path.name for path in tmp_path.joinpath("labels").rglob("*.txt")) == ["a.txt"]
    assert not list(tmp_path.glob(".*"))


def test_yolo_pictures_of_one_stem_are_refused_before_the_work():
    check_picture_names("coco", ["a.jpg", "a.png"])
    with pytest.raises(InputError, match=r"labels/a\.txt"):
        check_picture_names("yolo", ["a.jpg", "a.png"])


def test_label_studio_tasks_fit_the_interface_beside_them(tmp_path, pictures):
    tasks, config = write_labels(tmp_path, "label-studio", NAMES, pictures)
    first, second = json.loads(tasks.read_text())
    assert first["data"] == {"image": "/data/local-files/?d=b%20c.png"}
    (prediction,) = first["predictions"]
    assert prediction["score"] == 0.3
    assert [box["value"]["rectanglelabels"] for box in prediction["result"]] == [
        ["STOP sign"],
        ["a cat"],
        ["a cat"],
    ]
    assert second["predictions"][0]["result"] == []
    interface = fromstring(config.read_text())
    assert [label.get("value") for label in interface.iter("Label")] == list(NAMES)
    box = prediction["result"][0]
    assert interface.find("RectangleLabels").get("name") == box["from_name"]
    assert interface.find("Image").get("name") == box["to_name"]


def test_a_name_that_is_no_text_is_quoted_byte_by_byte(tmp_path, pictures):
    odd = [replace(pictures[0], name=os.fsdecode(b"caf\xe9.jpg"))]
    tasks, _ = write_labels(tmp_path, "label-studio", NAMES, odd)
    assert json.loads(tasks.read_text())[0]["data"]["image"].endswith("caf%E9.jpg")


def test_an_interface_holds_any_name():
    names = ("<b>\"x\"&'y'</b>", "é 中")
    assert [one.get("value") for one in fromstring(label_config(names)).iter("Label")] == list(names)


@pytest.mark.parametrize("form", ["coco", "yolo", "label-studio"])
def test_a_full_disk_leaves_what_was_there(tmp_path, pictures, monkeypatch, form):
    before = {
        path: path.read_bytes() for path in write_labels(tmp_path, form, NAMES, pictures) if path.is_file()
    }

    def fail(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writers.os, "fsync", fail)
    with pytest.raises(InputError, match="No space left"):
        write_labels(tmp_path, form, NAMES[::-1], pictures)
    assert {path: path.read_bytes() for path in before} == before
    assert not list(tmp_path.glob(".*"))
