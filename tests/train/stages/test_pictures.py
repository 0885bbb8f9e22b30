import json

import numpy as np
import pytest

from openferret.train.stages.pictures import WHOLE, Crop, coco_records, crop_pixels, held_out, mirror_words


def test_a_crop_places_boxes_and_tells_what_is_left():
    box, left = Crop(0.5, 0.0, 1.0, 1.0, False).place((0.25, 0.0, 0.75, 1.0))
    assert box == pytest.approx((0.0, 0.0, 0.5, 1.0))
    assert left == pytest.approx(0.5)


def test_a_mirrored_crop_swaps_sides():
    box, _ = Crop(0.0, 0.0, 1.0, 1.0, True).place((0.0, 0.1, 0.25, 0.2))
    assert box == pytest.approx((0.75, 0.1, 1.0, 0.2))
    assert mirror_words("the left man, not leftover") == "the right man, not leftover"


@pytest.mark.parametrize("mirrored", [False, True])
def test_pixels_and_boxes_are_cropped_alike(mirrored):
    store = np.zeros((1, 224, 224, 3), np.uint8)
    store[0, 56:112, 112:140] = 255
    crop = Crop(0.25, 0.0, 1.0, 0.75, mirrored)
    (x1, y1, x2, y2), _ = crop.place((112 / 224, 56 / 224, 140 / 224, 112 / 224))
    bright = crop_pixels(store, [0], [crop], 96)[0, 0].numpy() > 0
    rows, columns = np.nonzero(bright)
    assert (columns.min() / 96, (columns.max() + 1) / 96) == pytest.approx((x1, x2), abs=0.02)
    assert (rows.min() / 96, (rows.max() + 1) / 96) == pytest.approx((y1, y2), abs=0.02)


def test_the_whole_picture_keeps_its_colours():
    store = np.full((1, 224, 224, 3), 127, np.uint8)
    assert crop_pixels(store, [0], [WHOLE], 64).abs().max() < 1e-6


def test_mini_val_is_never_in_training_records(tmp_path):
    pictures = [{"id": k, "width": 10, "height": 10, "file_name": f"{k}.jpg"} for k in range(1, 40)]
    items = [{"image_id": k, "category_id": 1, "iscrowd": 0, "bbox": [1, 1, 5, 5]} for k in range(1, 40)]
    content = {"images": pictures, "annotations": items, "categories": [{"id": 1, "name": "apple"}]}
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    records, files = coco_records(path, 100)
    _, kept_back = coco_records(path, 100, training=False)
    assert not set(files) & set(kept_back)
    assert len(files) + len(kept_back) == 39
    assert all(held_out(int(name.split(".")[0])) for name in kept_back)
    assert [record.row for record in records] == list(range(100, 100 + len(files)))
    assert records[0].named[0].text == "an apple"


def test_records_know_which_picture_they_are_of_and_crowds_are_there(tmp_path):
    numbers = [k for k in range(1, 40) if not held_out(k)]
    pictures = [{"id": k, "width": 10, "height": 10, "file_name": f"{k:012}.jpg"} for k in numbers]
    items = [{"image_id": k, "category_id": 1, "iscrowd": 0, "bbox": [1, 1, 5, 5]} for k in numbers]
    items.append({"image_id": numbers[0], "category_id": 2, "iscrowd": 1, "bbox": [1, 1, 5, 5]})
    names = [{"id": 1, "name": "dining table"}, {"id": 2, "name": "person"}]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": pictures, "annotations": items, "categories": names}))
    records, _ = coco_records(path, 0)
    assert [record.name for record in records] == [f"coco:{k}" for k in numbers]
    assert records[0].heads == {"table", "person"}
    assert records[0].people
    assert records[1].heads == {"table"}
    assert not records[1].people
