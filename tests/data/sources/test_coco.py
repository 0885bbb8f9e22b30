import json
import os
from pathlib import Path

import numpy as np
import pytest

from openferret.data.outlines import Polygons, RunLengths, outline_mask
from openferret.data.problems import Problems
from openferret.data.sources import read_source
from openferret.errors import InputError
from openferret.masks import encode_rle
from openferret.regions import Box

MASK = encode_rle(np.pad(np.ones((5, 5), bool), ((5, 20), (3, 32))), compressed=False)
SHARED = Path(os.environ.get("OPENFERRET_SHARED", Path(__file__).parents[4] / "shared")) / "data"


def content(**changes):
    def image(key, **more):
        url = f"http://farm4.staticflickr.com/3148/{key}000000_ba19663418_z.jpg"
        return {"id": key, "file_name": f"{key:03}.jpg", "width": 40, "height": 30, "flickr_url": url} | more

    def thing(key, picture, category, bbox, **more):
        return {"id": key, "image_id": picture, "category_id": category, "bbox": bbox, "iscrowd": 0} | more

    return {
        "info": {"a": [1, {"b": 2}]},
        "images": [image(2), image(1, neg_category_ids=[18], not_exhaustive_category_ids=[1])],
        "annotations": [
            thing(10, 1, 1, [1, 2, 5, 6], segmentation=[[1, 2, 6, 2, 6, 8, 1, 8]]),
            thing(11, 2, 18, [3, 5, 5, 5], segmentation=MASK, iscrowd=1),
            thing(12, 1, 18, [10, 10, 5.5, 5], segmentation=[]),
        ],
        "categories": [
            {"id": 1, "name": "person", "supercategory": "person"},
            {"id": 18, "name": "dog", "supercategory": "animal"},
        ],
    } | changes


def captions():
    return {"annotations": [{"id": 5, "image_id": 1, "caption": "A man\n and a dog. "}], "images": []}


def read(root, kind="coco", problems=None, **options):
    return list(read_source(kind, root, problems or Problems(strict=True), **options))


def test_records_are_in_the_order_of_the_pictures(making, tmp_path):
    making.write_json(tmp_path / "annotations/instances_train2017.json", content())
    making.write_json(tmp_path / "annotations/captions_train2017.json", captions())
    second, first = read(tmp_path)
    assert [one.picture.id for one in (second, first)] == ["2", "1"]
    assert [(one.name, one.box) for one in first.objects] == [
        ("person", Box(1, 2, 6, 8)),
        ("dog", Box(10, 10, 15.5, 15)),
    ]
    assert isinstance(first.objects[0].outline, Polygons)
    assert outline_mask(first.objects[0].outline, 40, 30).array.sum() == 30
    assert second.objects[0].is_crowd
    assert isinstance(second.objects[0].outline, RunLengths)
    assert second.objects[0].outline.mask().array.sum() == 25
    assert first.captions[0].text == "A man and a dog."
    assert first.picture.same_as == ("flickr:1000000",)
    assert first.vocabulary.exhaustive
    assert first.vocabulary.categories[1].ancestors == ("animal",)


def test_lvis_names_what_is_absent_and_what_is_not_exhaustive(making, tmp_path):
    categories = [
        {"id": 1, "name": "bow_(weapon)", "synonyms": ["bow_(weapon)", "long_bow"], "synset": "bow.n.04"},
        {"id": 18, "name": "dog", "synonyms": ["dog"], "synset": "dog.n.01", "frequency": "f"},
    ]
    changed = content(categories=categories)
    for image in changed["images"]:
        del image["file_name"]
        image["coco_url"] = f"http://images.cocodataset.org/val2017/{image['id']:012}.jpg"
    making.write_json(tmp_path / "lvis_v1_val.json", changed)
    record = read(tmp_path, "lvis", split="val")[1]
    assert record.absent == ("dog",)
    assert record.not_exhaustive == ("bow",)
    assert record.objects[0].names == ("bow", "long bow")
    assert record.objects[0].synset == "bow.n.04"
    assert record.picture.file == "val2017/000000000001.jpg"
    assert "coco:1" in record.picture.same_as
    assert not record.vocabulary.exhaustive


def test_objects365_says_its_names_in_small_letters(making, tmp_path):
    categories = [{"id": 1, "name": "Cabinet/shelf"}, {"id": 18, "name": "Wine Glass"}]
    changed = content(categories=categories)
    changed["images"][1]["file_name"] = "images/v1/patch8/objects365_v1_00000001.jpg"
    making.write_json(tmp_path / "zhiyuan_objv2_train.json", changed)
    making.write_picture(tmp_path / "train/patch8/objects365_v1_00000001.jpg")
    record = read(tmp_path, "objects365", pictures=tmp_path / "train")[1]
    assert record.picture.file == "patch8/objects365_v1_00000001.jpg"
    assert record.objects[0].names == ("cabinet", "shelf")
    assert record.objects[1].names == ("wine glass",)


def test_ones_own_file(making, tmp_path):
    path = making.write_json(tmp_path / "my.json", content())
    record = read(tmp_path, "coco_json", licence="mine", exhaustive=True)[1]
    assert (record.licence, record.vocabulary.exhaustive, record.picture.source) == (
        "mine",
        True,
        "coco_json",
    )
    assert read(path, "coco_json")[1].objects == record.objects
    making.write_json(tmp_path / "other.json", content())
    with pytest.raises(InputError, match=r"my\.json, other\.json"):
        read(tmp_path, "coco_json")


BAD = [
    (("annotations", 0, "bbox", [50, 2, 5, 6]), "box outside the picture"),
    (("annotations", 0, "bbox", [1, 2, -5, 6]), "inverted box"),
    (("annotations", 0, "bbox", [1, 2, 0, 6]), "empty box"),
    (("annotations", 0, "bbox", [1, 2, float("nan"), 6]), "malformed box"),
    (("annotations", 0, "bbox", "1234"), "malformed box"),
    (("annotations", 0, "bbox", [30, 2, 50, 6]), "box beyond the edge"),
    (("annotations", 0, "category_id", 77), "unknown category"),
    (("annotations", 0, "category_id", [1]), "unknown category"),
    (("annotations", 0, "id", 12), "duplicate id"),
    (("annotations", 0, "image_id", None), "malformed annotation"),
    (("annotations", 0, "image_id", 99), "unknown picture"),
    (("annotations", 0, "segmentation", [[1, 2, 3]]), "malformed outline"),
    (("annotations", 0, "segmentation", {"size": [3, 3], "counts": [9]}), "malformed outline"),
    (("annotations", 0, "segmentation", 3), "malformed outline"),
    (("annotations", 0, None, 7), "malformed annotation"),
    (("images", 0, "id", 1), "duplicate id"),
    (("images", 0, "width", "wide"), "malformed picture"),
    (("images", 0, "height", 0), "malformed picture"),
    (("images", 0, "file_name", None), "malformed picture"),
    (("images", 0, None, []), "malformed picture"),
    (("categories", 0, "name", 3), "malformed category"),
    (("categories", 0, "id", 18), "duplicate id"),
]


@pytest.mark.parametrize(("damage", "kind"), BAD, ids=[f"{kind}-{n}" for n, (_, kind) in enumerate(BAD)])
def test_bad_entries_are_named_and_counted_and_cost_nothing_else(making, tmp_path, damage, kind):
    key, number, name, value = damage
    changed = content()
    if name is None:
        changed[key][number] = value
    else:
        changed[key][number][name] = value
    path = making.write_json(tmp_path / "instances_train2017.json", changed)
    problems = Problems()
    records = read(tmp_path, problems=problems)
    assert problems.counts[kind] == 1
    assert path.name in problems.examples[0].place
    assert any(thing.id == "12" for record in records for thing in record.objects) or key == "images"
    with pytest.raises(InputError, match=r"instances_train2017\.json"):
        read(tmp_path, problems=Problems(strict=True))


def test_a_file_that_is_cut_off_gives_what_is_whole(making, tmp_path):
    text = json.dumps({key: content()[key] for key in ("categories", "images", "annotations")})
    path = tmp_path / "instances_train2017.json"
    path.write_text(text[:-60], encoding="utf-8")
    problems = Problems()
    records = read(tmp_path, problems=problems)
    assert [len(record.objects) for record in records] == [1, 1]
    assert problems.counts["damaged file"]
    # What was cut off is of things that are there: neither are they absent, nor are these all of them.
    assert not any(one.vocabulary.exhaustive or one.vocabulary.instances for one in records)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"images": []}', '{"categories": [{"id": 1, "name": "a"}]}', "[" * 10**5]
)
def test_other_layouts_are_named(tmp_path, text):
    (tmp_path / "instances_train2017.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"instances_train2017\.json.*"):
        read(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data is not there")
def test_genuine_files():
    problems = Problems()
    coco = read(SHARED / "coco2017_mini", problems=problems)
    assert (len(coco), sum(len(one.objects) for one in coco)) == (337, 2838)
    assert sum(thing.is_crowd for one in coco for thing in one.objects) == 28
    assert sum(bool(one.captions) for one in coco) == 130
    lvis = read(SHARED / "formats/lvis/lvis_val_36.json", "lvis", problems=problems)
    assert len(lvis) == 36
    assert "clock tower" in lvis[0].absent
    assert not problems.counts
