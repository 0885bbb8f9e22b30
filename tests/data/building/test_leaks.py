import json
import pickle

import numpy as np
import pytest

from openferret.data.building.leaks import LeakFilter, evaluation_names, identities, read_filter, read_hashes
from openferret.data.building.recipe import EvaluationSet, Leaks
from openferret.data.schema import PictureReference
from openferret.errors import InputError


def picture(**changes):
    values = {"file": "x/9.jpg", "width": 4, "height": 3, "source": "visual_genome", "id": "9"} | changes
    return PictureReference(**values)


def test_ids_are_compared_within_their_origin():
    leaks = LeakFilter({"coco:9": "pope"})
    assert leaks.find(picture(), None) is None
    assert leaks.find(picture(source="coco"), None) == ("pope", "id")
    assert leaks.find(picture(same_as=("coco:9",)), None) == ("pope", "id")
    assert leaks.find(picture(file="mine/COCO_val2014_000000000009.jpg", id="a", source="mine"), None) == (
        "pope",
        "id",
    )
    assert leaks.find(picture(file="mine/000000000009.jpg", id="a", source="mine"), None) == ("pope", "id")


def test_a_photo_of_flickr30k_is_known_in_other_sources_by_its_number(tmp_path):
    (tmp_path / "val.txt").write_text("36979\n")
    one = EvaluationSet("entities", "flickr30k", (tmp_path / "val.txt",))
    leaks = read_filter(Leaks((one,)))
    assert leaks.find(picture(source="coco", same_as=("flickr:36979",)), None) == ("entities", "id")
    assert leaks.find(picture(source="coco", same_as=("coco:36979",)), None) is None


def test_looks_are_compared_across_origins():
    leaks = LeakFilter({}, np.array([0b1111, 2**63], np.uint64), ("a", "b"), near=2)
    assert leaks.find(picture(), 0b1100) == ("a", "looks")
    assert leaks.find(picture(), 2**63 + 1) == ("b", "looks")
    assert leaks.find(picture(), 0b1111 << 40) is None
    assert leaks.find(picture(), None) is None


def test_identities_of_a_picture():
    assert identities(picture(same_as=("flickr:0012",))) == ["visual_genome:9", "flickr:12"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("val.txt", "12\n13.jpg\n", ["12", "13.jpg"]),
        ("pope.json", '{"image": "a.jpg"}\n{"image": "a.jpg"}\n{"image": "b.jpg"}\n', ["a.jpg", "b.jpg"]),
        ("coco.json", json.dumps({"images": [{"file_name": "d/1.jpg", "id": 7}]}), ["1.jpg"]),
        ("lvis.json", json.dumps({"images": [{"coco_url": "http://x/y/5.jpg", "id": 7}]}), ["5.jpg"]),
        ("lvis_ids.json", json.dumps({"images": [{"id": 7}]}), ["7"]),
        ("mdetr.json", json.dumps({"images": [{"id": 0, "original_id": 581857}]}), ["581857"]),
        ("list.json", "[3, 4]", ["3", "4"]),
    ],
)
def test_names_in_files_of_evaluation_sets(tmp_path, name, content, expected):
    (tmp_path / name).write_text(content)
    assert evaluation_names(tmp_path / name) == expected


def test_names_in_refs(tmp_path):
    refs = [
        {"image_id": 1, "split": "train"},
        {"image_id": 2, "split": "testA"},
        {"image_id": 3, "split": "val"},
    ]
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(refs))
    assert evaluation_names(tmp_path / "refs(unc).p") == ["2", "3"]


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", ""), ("a.json", "{}"), ("a.json", "[[]]"), ("a.json", "{")]
)
def test_a_list_of_nothing_protects_nothing_and_is_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError):
        read_filter(Leaks((EvaluationSet("x", "coco", (tmp_path / name,)),)))


def test_hashes(tmp_path):
    (tmp_path / "h.tsv").write_text("a/0007.jpg\t00000000000000ff\n\nb.jpg\t1\n")
    assert read_hashes(tmp_path / "h.tsv") == {"7": 255, "b": 1}
    (tmp_path / "h.tsv").write_text("a\tzz\n")
    with pytest.raises(InputError, match="line 1"):
        read_hashes(tmp_path / "h.tsv")


def test_hashes_stand_for_the_pictures_of_an_evaluation_set(tmp_path):
    (tmp_path / "looks.tsv").write_text("val/12.jpg\t00000000000000ff\n")
    leaks = read_filter(Leaks((EvaluationSet("val", "flickr30k", hashes=tmp_path / "looks.tsv"),)))
    assert leaks.find(picture(source="flickr30k", id="12"), None) == ("val", "id")
    assert leaks.find(picture(), 0xFE) == ("val", "looks")
    assert leaks.find(picture(), 0xFFFFFF00) is None


@pytest.mark.parametrize(
    "line", ["a\t1ffffffffffffffff", "a\t-ff", "a 00000000000000ff", "\t00000000000000ff"]
)
def test_a_line_that_is_no_hash_is_named(tmp_path, line):
    (tmp_path / "looks.tsv").write_text(f"b\t00000000000000ff\n\n{line}\n")
    with pytest.raises(InputError, match="line 3"):
        read_hashes(tmp_path / "looks.tsv")
