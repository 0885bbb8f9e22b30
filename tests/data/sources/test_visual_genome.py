import os
from pathlib import Path

import pytest

from openferret.data.problems import Problems
from openferret.data.records import Relationship
from openferret.data.sources import read_source
from openferret.errors import InputError
from openferret.regions import Box

SHARED = Path(os.environ.get("OPENFERRET_SHARED", Path(__file__).parents[4] / "shared")) / "data"


def thing(key, x=1, **more):
    return {"object_id": key, "x": x, "y": 2, "w": 5, "h": 6, "names": [f"thing {key}"], "synsets": []} | more


def sizes():
    return [
        {"image_id": key, "width": 40, "height": 30, "url": f"https://x/VG_100K_2/{key}.jpg", "coco_id": None}
        for key in (1, 2, 3)
    ]


@pytest.fixture
def root(making, tmp_path):
    files = {
        "image_data": sizes(),
        "objects": [
            {"image_id": 1, "objects": [thing(10), thing(11, 8)]},
            {"image_id": 3, "objects": [thing(30)]},
        ],
        # Another order than that of the pictures.
        "attributes": [
            {"image_id": 3, "attributes": []},
            {"image_id": 1, "attributes": [thing(10, attributes=["red", " tall "], synsets=["dog.n.01"])]},
        ],
        "relationships": [
            {
                "image_id": 1,
                "relationships": [
                    {
                        "relationship_id": 7,
                        "predicate": "ON",
                        "subject": thing(10),
                        "object": {**thing(12), "names": None, "name": "mat"},
                    }
                ],
            }
        ],
        "region_descriptions": [
            {
                "id": 2,
                "regions": [
                    {"region_id": 5, "x": 1, "y": 2, "width": 9, "height": 9, "phrase": "a dog  runs"}
                ],
            }
        ],
        "question_answers": [
            {
                "id": 1,
                "qas": [
                    {
                        "qa_id": 9,
                        "question": "What is red?",
                        "answer": "The dog.",
                        "a_objects": [{"object_id": 10}, {"object_id": 99}],
                        "q_objects": [],
                    }
                ],
            }
        ],
    }
    for name, content in files.items():
        making.write_json(tmp_path / f"{name}.json", content)
    return tmp_path


def read(root, problems=None, pictures=None):
    return list(read_source("visual_genome", root, problems or Problems(strict=True), pictures))


def test_the_files_are_merged_by_picture_and_object(root):
    first, second, third = read(root)
    assert [one.name for one in first.objects] == ["thing 10", "thing 11", "mat"]
    assert first.objects[0].attributes == ("red", "tall")
    assert first.objects[0].synset == "dog.n.01"
    assert first.relationships == (Relationship(0, "on", 2, "7"),)
    assert first.questions[0].answer_objects == (0,)
    assert second.descriptions[0].text == "a dog runs"
    assert second.descriptions[0].box == Box(1, 2, 10, 11)
    assert third.objects[0].id == "30"
    assert first.picture.file == "VG_100K_2/1.jpg"


def test_pictures_that_are_in_coco_or_flickr_are_known(root, making):
    listed = sizes()
    listed[0] |= {"coco_id": 77, "flickr_id": 123456}
    making.write_json(root / "image_data.json", listed)
    assert read(root)[0].picture.same_as == ("coco:77", "flickr:123456")


def test_files_of_one_entry_take_their_sizes_from_the_pictures(making, tmp_path):
    making.write_json(
        tmp_path / "attributes.json", {"image_id": 2, "attributes": [thing(1, attributes=["red"])]}
    )
    making.write_json(tmp_path / "attributes2.json", {"image_id": 10, "attributes": [thing(2)]})
    making.write_json(tmp_path / "attributes3.json", {"image_id": 3, "attributes": [thing(3)]})
    making.write_picture(tmp_path / "2.jpg")
    making.write_picture(tmp_path / "VG_100K" / "10.jpg")
    (tmp_path / "3.jpg").write_bytes(b"no picture")
    problems = Problems()
    records = read(tmp_path, problems, tmp_path)
    assert [(one.picture.file, one.picture.width) for one in records] == [
        ("2.jpg", 40),
        ("VG_100K/10.jpg", 40),
    ]
    assert problems.counts == {"damaged picture": 1}


def test_what_is_missing_is_named(tmp_path, making):
    with pytest.raises(InputError, match=r"objects\.json.*attributes\.json.*image_data\.json"):
        read(tmp_path)
    making.write_json(tmp_path / "objects.json", [])
    with pytest.raises(InputError, match=r"image_data\.json"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("objects", [{"image_id": 1, "objects": [thing(10, x=100)]}], "box outside the picture"),
        ("objects", [{"image_id": 1, "objects": [thing(10, w=0)]}], "empty box"),
        ("objects", [{"image_id": 1, "objects": [thing(10, w=-3)]}], "inverted box"),
        ("objects", [{"image_id": 1, "objects": [thing(10, w="5")]}], "malformed box"),
        ("objects", [{"image_id": 1, "objects": [{**thing(10), "names": []}]}], "object without a name"),
        ("objects", [{"image_id": 1, "objects": [3]}], "malformed entry"),
        ("objects", [{"image_id": 1, "objects": 3}], "malformed entry"),
        ("objects", [{"objects": []}], "malformed entry"),
        ("relationships", [{"image_id": 1, "relationships": [{"subject": 3}]}], "malformed entry"),
        (
            "relationships",
            [
                {
                    "image_id": 1,
                    "relationships": [{"subject": thing(10), "object": thing(11), "predicate": ""}],
                }
            ],
            "relationship without a predicate",
        ),
        ("question_answers", [{"id": 1, "qas": [{"question": "What?"}]}], "question without words"),
        ("image_data", [*sizes(), *sizes()[:1]], "duplicate id"),
        ("image_data", [*sizes(), {"image_id": 4}], "malformed picture"),
    ],
)
def test_bad_entries_are_named_and_counted(making, root, name, content, kind):
    making.write_json(root / "attributes.json", [])
    making.write_json(root / f"{name}.json", content)
    problems = Problems()
    assert len(read(root, problems)) == 3
    assert problems.counts[kind] >= 1
    assert not set(problems.counts) - {kind, "malformed entry"}
    with pytest.raises(InputError):
        read(root)


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data is not there")
def test_genuine_records():
    folder = SHARED / "formats/visual_genome"
    problems = Problems()
    first, second = read(folder, problems, folder)
    assert problems.counts == {"missing picture": 1}  # the third one's
    assert first.objects[0].names == ("clock",)
    assert first.objects[0].attributes == ("green", "tall")
    assert first.relationships[0].predicate == "on"
    assert second.objects[0].attributes == ("on", 'lit "walk"')
