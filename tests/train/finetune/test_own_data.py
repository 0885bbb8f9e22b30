"""A person's boxes: read from three formats, checked, split, cut into views, written as samples."""

import json

import numpy as np
import pytest
from PIL import Image

from openferret.data.loading.dataset import Dataset
from openferret.data.marks import grounded_phrases
from openferret.errors import InputError
from openferret.train.finetune.measuring import wanted_of
from openferret.train.finetune.own_data import check_own_data, class_name, find_format, read_own_data
from openferret.train.finetune.samples import view_samples, write_build
from openferret.train.finetune.splitting import split_pictures
from openferret.train.finetune.views import make_views
from openferret.train.objectives.locator import ABSENT_KEY


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
        Image.fromarray(noise).resize((80, 60)).save(folder / f"{number}.png")
    return folder


def coco(path, boxes, names=("cat", "Acme_Logo"), files=6, size=(80, 60)):
    """`boxes`: (picture, class, [x, y, w, h])."""
    content = {
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": size[0], "height": size[1]}
            for number in range(files)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        "annotations": [
            {"id": number, "image_id": picture, "category_id": kind, "bbox": box, "iscrowd": 0}
            for number, (picture, kind, box) in enumerate(boxes)
        ],
    }
    path.write_text(json.dumps(content))
    return path


BOXES = [(number, number % 2, [8, 6, 24, 18]) for number in range(6)]


def test_a_coco_json_is_counted(photos, tmp_path):
    data = read_own_data(coco(tmp_path / "boxes.json", BOXES), photos)
    assert data.title == "COCO"
    assert [(one.name, one.boxes, one.pictures) for one in data.counts()] == [
        ("cat", 3, 3),
        ("acme logo", 3, 3),
    ]
    assert data.counts()[0].size == pytest.approx(100 * 24 * 18 / (80 * 60))
    assert data.pictures[0].boxes == {"cat": ((0.1, 0.1, 0.4, 0.4),)}


def yolo_of_two_splits(photos, folder):
    """A YOLO folder of two of the photos, a cat in the middle of each."""
    home = folder / "yolo"
    for split, number in (("train", 0), ("val", 1)):
        (home / "images" / split).mkdir(parents=True)
        (home / "labels" / split).mkdir(parents=True)
        (photos / f"{number}.png").rename(home / "images" / split / f"{number}.png")
        (home / "labels" / split / f"{number}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (home / "data.yaml").write_text("names: [cat]\ntrain: images/train\nval: images/val\n")
    return home


def test_a_yolo_folder_is_read_in_all_its_splits(photos, tmp_path):
    home = yolo_of_two_splits(photos, tmp_path)
    for given in (home, home / "data.yaml"):
        data = read_own_data(given, home)
        assert [one.file for one in data.pictures] == ["images/train/0.png", "images/val/1.png"]
        assert data.pictures[0].boxes["cat"][0] == pytest.approx((0.4, 0.4, 0.6, 0.6))


def test_a_label_studio_export_is_read(photos, tmp_path):
    value = {"x": 10, "y": 10, "width": 30, "height": 30, "rectanglelabels": ["cat"]}
    result = {
        "id": "r",
        "type": "rectanglelabels",
        "value": value,
        "original_width": 80,
        "original_height": 60,
    }
    tasks = [
        {
            "id": number,
            "data": {"image": f"/data/upload/1/{number}.png"},
            "annotations": [{"result": [result]}],
        }
        for number in range(2)
    ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    data = read_own_data(path, photos)
    assert data.title == "Label Studio"
    assert data.pictures[0].boxes["cat"][0] == pytest.approx((0.1, 0.1, 0.4, 0.4))


@pytest.mark.parametrize("name", ["boxes.csv", "empty.json", "nowhere.json"])
def test_a_format_that_is_not_known_is_refused(tmp_path, name):
    path = tmp_path / name
    if name != "nowhere.json":
        path.write_text("" if name == "empty.json" else "a,b")
    with pytest.raises(InputError, match="a COCO json, a YOLO folder"):
        find_format(path)


def test_pictures_that_are_not_in_a_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        read_own_data(coco(tmp_path / "boxes.json", BOXES), tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("boxes", "match"),
    [
        ([], "no box that can be used"),
        ([(0, 0, [1, 1, 9, 9]), (1, 0, [1, 1, 9, 9])], "a class has no boxes: 'acme logo'.*--skip-bad"),
    ],
)
def test_what_cannot_be_learned_is_said_before_any_work(photos, tmp_path, boxes, match):
    data = read_own_data(coco(tmp_path / "boxes.json", boxes), photos)
    with pytest.raises(InputError, match=match):
        check_own_data(data)


def test_a_class_without_boxes_may_be_left_out(photos, tmp_path):
    boxes = [(0, 0, [1, 1, 9, 9]), (1, 0, [1, 1, 9, 9])]
    data = check_own_data(read_own_data(coco(tmp_path / "boxes.json", boxes), photos), skip=True)
    assert data.classes == ("cat",)


def test_boxes_on_one_picture_are_too_few(photos, tmp_path):
    data = read_own_data(coco(tmp_path / "boxes.json", [(0, 0, [1, 1, 9, 9])], names=("cat",)), photos)
    with pytest.raises(InputError, match="at least two pictures"):
        check_own_data(data)


def test_missing_and_damaged_pictures_are_named_or_left_out(photos, tmp_path):
    (photos / "2.png").unlink()
    (photos / "3.png").write_text("no picture")
    data = read_own_data(coco(tmp_path / "boxes.json", BOXES), photos)
    assert data.missing == ("2.png",)
    assert list(data.damaged) == ["3.png"]
    with pytest.raises(InputError, match=r"1 of 6 pictures are missing: 2\.png"):
        check_own_data(data)
    assert len(check_own_data(data, skip=True).pictures) == 4


def test_pictures_of_another_size_than_stated_are_told(photos, tmp_path):
    scaled = [(number, kind, [side * 2 for side in box]) for number, kind, box in BOXES]
    data = read_own_data(coco(tmp_path / "boxes.json", scaled, size=(160, 120)), photos)
    assert data.problems.counts["other size"] == 6
    assert data.pictures[0].boxes["cat"] == ((0.1, 0.1, 0.4, 0.4),)


def test_a_picture_that_stands_twice_has_the_boxes_of_both(photos, tmp_path):
    path = coco(tmp_path / "boxes.json", BOXES)
    content = json.loads(path.read_text())
    content["images"] += [{**one, "id": 10 + one["id"]} for one in content["images"]]
    more = [{**one, "id": 10 + one["id"], "image_id": 10 + one["image_id"]} for one in content["annotations"]]
    content["annotations"] += [{**one, "category_id": 1 - one["category_id"]} for one in more]
    path.write_text(json.dumps(content))
    data = read_own_data(path, photos)
    assert [(one.name, one.boxes) for one in data.counts()] == [("cat", 6), ("acme logo", 6)]


def test_what_is_there_without_a_usable_box_is_not_taught_as_absent(photos, tmp_path):
    path = coco(tmp_path / "boxes.json", [*BOXES, (0, 1, [9, 9, -3, 3]), (2, 1, [9, 9, 3, 3])])
    content = json.loads(path.read_text())
    content["annotations"][-1]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    data = check_own_data(read_own_data(path, photos))
    assert [one.file for one in data.pictures if one.unsure] == ["0.png", "2.png"]
    views = make_views(data.pictures, tmp_path / "parts", 0)
    absent = {view.file: [one for one in view_samples(view, data.classes) if one.negative] for view in views}
    assert not absent["0.png"]
    assert not absent["2.png"]
    assert absent["4.png"]
    assert not [
        one
        for one in wanted_of(data.pictures, data.classes)
        if one.picture in {"0.png", "2.png"} and not one.boxes
    ]


def test_damaged_pictures_of_every_split_are_named_once(photos, tmp_path):
    home = yolo_of_two_splits(photos, tmp_path)
    (home / "images/val/2.png").write_text("no picture")
    data = read_own_data(home, home)
    assert len(data.damaged) == 1
    with pytest.raises(InputError, match=r"1 of 3 pictures cannot be opened: .*images/val/2\.png"):
        check_own_data(data)


def test_a_task_that_nobody_annotated_is_left_out_and_missing_pictures_are_all_counted(photos, tmp_path):
    value = {"x": 10, "y": 10, "width": 30, "height": 30, "rectanglelabels": ["cat"]}
    labelled = [{"result": [{"id": "r", "type": "rectanglelabels", "value": value}]}]
    tasks = [{"id": n, "data": {"image": f"{n}.png"}, "annotations": labelled} for n in range(40)]
    tasks[0]["annotations"] = []
    tasks[1]["annotations"] = [{"result": [], "was_cancelled": True}]
    tasks[2]["annotations"] = [{"result": []}]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    data = read_own_data(path, photos)
    assert [(one.file, bool(one.boxes)) for one in data.pictures] == [
        ("2.png", False),
        ("3.png", True),
        ("4.png", True),
        ("5.png", True),
    ]
    with pytest.raises(InputError, match=r"34 of 38 pictures are missing: 6\.png, 7\.png"):
        check_own_data(data)


@pytest.mark.parametrize(("number", "expected"), [(6, (0.6, 0.1, 0.9, 0.4)), (8, (0.1, 0.6, 0.4, 0.9))])
def test_boxes_of_a_picture_as_it_is_stored_are_turned_with_it(photos, tmp_path, number, expected):
    exif = Image.Exif()
    exif[0x0112] = number
    with Image.open(photos / "0.png") as image:
        image.save(photos / "0.png", exif=exif)
    data = read_own_data(coco(tmp_path / "boxes.json", BOXES), photos)
    assert (data.pictures[0].width, data.pictures[0].height) == (60, 80)
    assert data.pictures[0].boxes["cat"][0] == pytest.approx(expected)
    assert "boxes are turned" in data.problems.lines()[0]


def test_names_become_words():
    assert class_name("Acme_Logo") == "acme logo"


@pytest.fixture
def data(photos, tmp_path):
    return check_own_data(read_own_data(coco(tmp_path / "boxes.json", BOXES), photos))


def test_the_split_is_by_picture_seeded_and_leaves_every_class_on_both_sides(data):
    learned, held = split_pictures(data.pictures, 0.2, 0)
    assert {one.file for one in learned} | {one.file for one in held} == {one.file for one in data.pictures}
    assert not {one.file for one in learned} & {one.file for one in held}
    for side in (learned, held):
        assert {name for one in side for name in one.boxes} == {"cat", "acme logo"}
    assert split_pictures(data.pictures, 0.2, 0) == (learned, held)


def test_a_class_on_one_picture_is_learned(photos, tmp_path):
    boxes = [(0, 1, [8, 6, 24, 18]), *((number, 0, [8, 6, 24, 18]) for number in range(1, 6))]
    data = check_own_data(read_own_data(coco(tmp_path / "boxes.json", boxes), photos))
    for seed in range(5):
        learned, _ = split_pictures(data.pictures, 0.5, seed)
        assert any("acme logo" in one.boxes for one in learned)


def test_views_show_boxes_whole_or_not_at_all(data, tmp_path):
    views = make_views(data.pictures, tmp_path / "parts", 0)
    parts = [one for one in views if one.source == "parts"]
    assert any(one.boxes for one in parts)
    assert any(not one.boxes for one in parts)
    for one in parts:
        with Image.open(tmp_path / "parts" / one.file) as image:
            assert image.size == (one.width, one.height)
    assert make_views(data.pictures, tmp_path / "parts", 0) == views


def test_samples_ask_where_whether_and_what(data, tmp_path):
    views = make_views(data.pictures[:1], tmp_path / "parts", 0)
    samples = list(view_samples(views[0], data.classes))
    assert [one.turns[0].text for one in samples] == [
        "Where is a cat?",
        "Is there a cat in the picture?",
        "What is <region:0>?",
        "Where is an acme logo?",
        "Is there an acme logo in the picture?",
    ]
    assert [one.phrase for one in grounded_phrases(samples[0].turns[1].text)] == ["a cat"]
    assert [one.extra.get(ABSENT_KEY) for one in samples] == [None] * 3 + ["an acme logo"] * 2


def test_names_with_marks_in_them_stay_words(photos, tmp_path):
    names = ("<box:0> {x}", "b")
    data = check_own_data(read_own_data(coco(tmp_path / "boxes.json", BOXES, names), photos))
    views = make_views(data.pictures, tmp_path / "parts", 0)
    samples = [one for view in views for one in view_samples(view, data.classes)]
    assert any("{x}" in one.turns[0].text for one in samples)


def test_samples_become_a_build_that_training_reads(data, photos, tmp_path):
    views = make_views(data.pictures, tmp_path / "parts", 0)
    folders = {"own": photos, "parts": tmp_path / "parts"}
    built = Dataset.open(write_build(views, data.classes, folders, tmp_path / "work"))
    samples = list(built.samples())
    assert len({one.picture.file for one in samples}) == len(views)
    assert all(
        built.load_picture(one.picture).size == (one.picture.width, one.picture.height) for one in samples
    )
