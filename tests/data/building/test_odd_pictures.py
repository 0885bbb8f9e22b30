"""A build in which every picture is odd: what is a picture is used, and of the rest is said which and why."""

import json

import numpy as np

from openferret.data.building.pipeline import build
from openferret.data.loading.dataset import Dataset

from ... import odd_pictures
from ..small_set import problems_of, recipe_of


def recipe_of_odd(tmp_path, **more):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    usable, refused = odd_pictures.usable(), odd_pictures.refused()
    sizes = {name: size for name, (_, size, _) in usable.items()}
    images, annotations = [], []
    for number, name in enumerate([*usable, *refused], 1):
        (pictures / name).write_bytes((usable.get(name) or refused[name])[0])
        width, height = sizes.get(name, (odd_pictures.WIDTH, odd_pictures.HEIGHT))
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        box = [0, 0, width, height / 2]
        entry = {"id": number, "image_id": number, "category_id": 1, "bbox": box, "iscrowd": 0}
        annotations.append({**entry, "area": box[2] * box[3]})
    content = {"categories": [{"id": 1, "name": "dog"}], "images": images, "annotations": annotations}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    source = {"kind": "coco_json", "root": str(tmp_path / "boxes.json"), "pictures": str(pictures)}
    return recipe_of(tmp_path, source, **more)


def test_odd_pictures_are_used_and_what_is_no_picture_is_named(tmp_path):
    built = build(recipe_of_odd(tmp_path), tmp_path / "out")
    assert built["pictures"] == len(odd_pictures.usable())
    said = {one["place"]: one["message"] for one in problems_of(tmp_path / "out")}
    assert said.keys() == odd_pictures.refused().keys()
    for name, (_, reason) in odd_pictures.refused().items():
        assert name in said[name]
        assert reason in said[name]
        assert "\n" not in said[name]


def test_odd_pictures_come_out_upright_and_of_the_size_that_boxes_are_in(tmp_path):
    build(recipe_of_odd(tmp_path), tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    seen = {one.file.removeprefix("mine/"): one for one in dataset.pictures()}
    assert seen.keys() == odd_pictures.usable().keys()
    for name, (_, size, alike) in odd_pictures.usable().items():
        assert (seen[name].width, seen[name].height) == size
        picture = dataset.load_picture(seen[name])
        assert picture.size == size
        if alike:
            differs = np.abs(np.asarray(picture, int) - np.asarray(odd_pictures.SCENE, int)).mean()
            assert differs < 12, name
