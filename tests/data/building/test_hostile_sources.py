"""Every value of every published layout put in the place of something hostile: named and skipped, never a crash."""

import copy
import json
import math
import os
from contextlib import suppress

import pytest

from openferret.data.building.candidates import write_candidates
from openferret.data.building.record_files import read_records, write_records
from openferret.data.problems import Problems
from openferret.data.sources import read_source
from openferret.data.templates.writers import make_settings, write_record
from openferret.errors import InputError

HOSTILE = (
    *(None, True, 0, -1, 10**30, 1e308, -1e308, math.nan, math.inf, [], {}, [[]], [None], [{}]),
    *(
        "",
        "x",
        "\ud800",
        "a\x00b",
        "<box:0> <region:7>",
        "../../etc/passwd",
        "\u202e\n\t",
        "9" * 5000,
        "w" * 70_000,
    ),
    *(
        [1, 2, 3],
        [math.nan] * 4,
        [5, 5, -5, -5],
        [1e300] * 4,
        ["a", "b"],
        {"size": [10**9, 10**9], "counts": [1]},
    ),
)
RLE = {"size": [30, 40], "counts": [100, 20, 1080]}


def coco(**more):
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 20, 20], "iscrowd": 0, "area": 400}
        | {"segmentation": [[2, 3, 22, 3, 22, 23]]},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [5, 5, 9, 9], "segmentation": RLE, "iscrowd": 1},
    ]
    image = {"id": 1, "file_name": "000000000001.jpg", "width": 40, "height": 30}
    categories = [{"id": 1, "name": "dog", "supercategory": "animal"}, {"id": 2, "name": "cat"}]
    return {"images": [image | more], "annotations": annotations, "categories": categories}


THING = {"object_id": 10, "x": 1, "y": 2, "w": 15, "h": 16, "names": ["dog"], "synsets": ["dog.n.01"]}
OTHER = {"object_id": 11, "x": 20, "y": 2, "w": 15, "h": 16, "name": "mat", "synsets": []}
RELATION = {"relationship_id": 7, "predicate": "ON", "subject": THING, "object": OTHER}
REGION = {"region_id": 5, "image_id": 1, "x": 1, "y": 2, "width": 9, "height": 9, "phrase": "a dog runs"}
ASKED = {"qa_id": 4, "question": "What is it?", "answer": "A dog.", "a_objects": [], "q_objects": [THING]}
RECTANGLE = {
    "id": "r1",
    "type": "rectanglelabels",
    "original_width": 40,
    "original_height": 30,
    "value": {"x": 1, "y": 2, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["dog"]},
}
POLYGON = {
    **RECTANGLE,
    "id": "p1",
    "type": "polygonlabels",
    "value": {"points": [[1, 1], [50, 1], [50, 50]], "polygonlabels": ["cat"]},
}
LINK = {"type": "relation", "from_id": "r1", "to_id": "p1", "direction": "right", "labels": ["on"]}
# kind, options, name of the file that is changed, its content, other files
LAYOUTS = {
    "coco": ("coco", {"split": "s"}, "annotations/instances_s.json", coco(), {}),
    "captions": (
        "coco",
        {"split": "s"},
        "annotations/captions_s.json",
        {"images": coco()["images"], "annotations": [{"id": 1, "image_id": 1, "caption": "A dog on a mat."}]},
        {"annotations/instances_s.json": coco()},
    ),
    "coco_json": ("coco_json", {}, "", coco(), {}),
    "lvis": (
        "lvis",
        {"split": "s"},
        "lvis_v1_s.json",
        coco(
            neg_category_ids=[2],
            not_exhaustive_category_ids=[1],
            coco_url="http://x/train2017/000000000001.jpg",
        )
        | {"categories": [{"id": 1, "name": "dog", "synonyms": ["dog"], "synset": "dog.n.01"}] * 2},
        {},
    ),
    "objects365": ("objects365", {"split": "s"}, "zhiyuan_objv2_s.json", coco(), {}),
    "genome objects": (
        "visual_genome",
        {},
        "objects.json",
        [{"image_id": 1, "objects": [THING, OTHER | {"names": ["mat"]}]}],
        {"image_data.json": [{"image_id": 1, "width": 40, "height": 30, "url": "http://x/VG_100K/1.jpg"}]},
    ),
    "genome sizes": (
        "visual_genome",
        {},
        "image_data.json",
        [
            {
                "image_id": 1,
                "width": 40,
                "height": 30,
                "url": "http://x/VG_100K/1.jpg",
                "coco_id": 3,
                "flickr_id": 4,
            }
        ],
        {"objects.json": [{"image_id": 1, "objects": [THING]}]},
    ),
    **{
        f"genome {name}": (
            "visual_genome",
            {},
            f"{name}.json",
            [{"id": 1, "image_id": 1, key: [content]}],
            {
                "image_data.json": [
                    {"image_id": 1, "width": 40, "height": 30, "url": "http://x/VG_100K/1.jpg"}
                ]
            },
        )
        for name, key, content in (
            ("relationships", "relationships", RELATION),
            ("region_descriptions", "regions", REGION),
            ("question_answers", "qas", ASKED),
            ("attributes", "attributes", THING | {"attributes": ["red"]}),
        )
    },
    "llava": (
        "llava_instruct",
        {},
        "llava_instruct_150k.json",
        [
            {
                "id": "1",
                "image": "000000000001.jpg",
                "conversations": [
                    {"from": "human", "value": "<image>\nWhat?"},
                    {"from": "gpt", "value": "A dog."},
                ],
            }
        ],
        {},
    ),
    "label studio": (
        "label_studio",
        {},
        "",
        [
            {
                "id": 1,
                "data": {"image": "/data/1.jpg"},
                "annotations": [{"result": [RECTANGLE, POLYGON, LINK]}],
            }
        ],
        {},
    ),
    "mdetr": (
        "refcoco",
        {"split": "train", "dataset": "refcoco"},
        "finetune_refcoco_train.json",
        {
            "images": [
                {
                    "file_name": "COCO_train2014_000000000001.jpg",
                    "height": 30,
                    "width": 40,
                    "id": 0,
                    "original_id": 1,
                    "caption": "left dog",
                    "dataset_name": "refcoco",
                }
            ],
            "annotations": [
                {"id": 0, "image_id": 0, "bbox": [2, 3, 10, 10], "category_id": 1, "original_id": 5}
            ],
            "categories": [{"id": 1, "name": "dog"}],
        },
        {},
    ),
}


def places(content, here=()):
    """Every place of a document: itself, its values, the values of those."""
    yield here
    inner = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in inner:
        yield from places(value, (*here, key))


def changed(content, place, value):
    if not place:
        return value
    result = copy.deepcopy(content)
    inner = result
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return result


def built(kind, root, options, folder):
    """Reads, writes and stores, as a build does; how many samples came of it."""
    try:
        records = list(read_source(kind, root, Problems(), None, **options))
    except InputError:
        return 0
    write_records(folder / "all.rec", records)
    settings, samples = make_settings(0, 1.0, None), []
    for record in read_records(folder / "all.rec"):
        with suppress(InputError):
            samples.extend(write_record(record, settings))
    write_candidates(folder / "all.arrow", "mine", samples, 0)
    return len(samples)


def check(layout, folder, every):
    kind, options, name, content, others = LAYOUTS[layout]
    root = folder / "source"
    for file, other in others.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(json.dumps(other))
    target = root / (name or "one.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content))
    place = root if name else target
    assert built(kind, place, options, folder), "the layout itself must give samples"
    cases = [(where, value) for where in places(content) for value in HOSTILE]
    for where, value in cases[::every]:
        target.write_text(json.dumps(changed(content, where, value)))
        try:
            built(kind, place, options, folder)
        except Exception as error:
            raise AssertionError(f"{layout}: {value!r:.60} at {where}: {type(error).__name__}") from error


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_hostile_value_costs_no_more_than_its_record(layout, tmp_path):
    check(layout, tmp_path, every=19)  # no divisor of the number of values: each of them comes


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_hostile_value_costs_no_more_than_its_record(layout, tmp_path):
    check(layout, tmp_path, every=1)
