import json
from importlib.util import find_spec
from typing import Any

import pytest

from openferret.answer import Answer, parse_answer
from openferret.errors import InputError
from openferret.exporters import to_coco, to_label_studio, to_supervision, to_yolo

STREET = parse_answer(
    "A man [100, 100, 500, 500] and two dogs [0, 0, 100, 200] [500, 500, 999, 999]",
    1000,
    500,
    scores=[0.9, 0.8, 0.7],
)
PARK = parse_answer("the man [200, 200, 300, 300]", 200, 200, model="kit")
NAMED = [("street.jpg", STREET), ("day/park.png", PARK), ("empty.jpg", Answer("nothing", (), 640, 480))]


def test_coco() -> None:
    coco = json.loads(json.dumps(to_coco(NAMED)))
    assert [image["file_name"] for image in coco["images"]] == ["street.jpg", "day/park.png", "empty.jpg"]
    assert coco["categories"] == [{"id": 1, "name": "man"}, {"id": 2, "name": "dogs"}]
    assert [(a["image_id"], a["category_id"]) for a in coco["annotations"]] == [
        (1, 1),
        (1, 2),
        (1, 2),
        (2, 1),
    ]
    first = coco["annotations"][0]
    assert first["bbox"] == pytest.approx([100.5, 50.25, 400, 200])
    assert first["area"] == pytest.approx(400 * 200)
    assert first["score"] == 0.9
    assert first["phrase"] == "A man"
    assert "score" not in coco["annotations"][3]


def test_coco_is_read_by_pycocotools(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    coco_api = pytest.importorskip("pycocotools.coco")
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(to_coco(NAMED)))
    coco = coco_api.COCO(str(path))
    capsys.readouterr()
    assert len(coco.getAnnIds(imgIds=[1], catIds=[2])) == 2


def test_yolo() -> None:
    files = to_yolo(NAMED)
    assert set(files) == {"classes.txt", "labels/street.txt", "labels/day/park.txt", "labels/empty.txt"}
    assert files["classes.txt"] == "man\ndogs\n"
    assert files["labels/empty.txt"] == ""
    lines = [line.split() for line in files["labels/street.txt"].splitlines()]
    assert [line[0] for line in lines] == ["0", "1", "1"]
    assert [float(value) for value in lines[0][1:]] == pytest.approx([0.3005, 0.3005, 0.4, 0.4])


@pytest.mark.parametrize("name", ["../../etc/a.jpg", "/etc/a.jpg", "..\\etc\\a.jpg", "./etc/../etc/a.jpg"])
def test_yolo_paths_stay_below_their_folder(name: str) -> None:
    (path,) = set(to_yolo([(name, PARK)])) - {"classes.txt"}
    assert path.startswith("labels/")
    assert ".." not in path


def test_yolo_refuses_two_pictures_with_one_label_file() -> None:
    with pytest.raises(InputError, match=r"labels/a\.txt"):
        to_yolo([("a.jpg", PARK), ("a.png", STREET)])


def test_label_studio() -> None:
    street, park, empty = json.loads(json.dumps(to_label_studio(NAMED)))
    assert street["data"] == {"image": "street.jpg", "text": "A man and two dogs"}
    first = street["predictions"][0]["result"][0]
    assert (first["original_width"], first["original_height"], first["score"]) == (1000, 500, 0.9)
    assert first["value"]["rectanglelabels"] == ["man"]
    assert [first["value"][key] for key in ("x", "y", "width", "height")] == pytest.approx(
        [10.05, 10.05, 40, 40]
    )
    assert len({result["id"] for result in street["predictions"][0]["result"]}) == 3
    assert park["predictions"][0]["model_version"] == "kit"
    assert empty["predictions"][0]["result"] == []


@pytest.mark.skipif(find_spec("supervision") is None, reason="supervision is optional")
def test_supervision() -> None:
    detections = to_supervision(STREET)
    assert detections.xyxy[0].tolist() == pytest.approx([100.5, 50.25, 500.5, 250.25])
    assert detections.confidence.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert detections.class_id.tolist() == [0, 1, 1]
    assert detections.data["class_name"].tolist() == ["man", "dogs", "dogs"]
    assert detections.data["phrase"].tolist() == ["A man", "two dogs", "two dogs"]
    assert to_supervision(PARK).confidence is None
