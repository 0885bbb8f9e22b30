"""Pascal VOC, RefCOCO, Flickr30k Entities and LLaVA-Instruct, in files built from their published layouts."""

import os
import pickle
from pathlib import Path

import pytest

from openferret.data.problems import Problems
from openferret.data.sources import read_source
from openferret.errors import InputError
from openferret.regions import Box

SHARED = Path(os.environ.get("OPENFERRET_SHARED", Path(__file__).parents[4] / "shared")) / "data"

VOC = """<annotation><filename>1.jpg</filename><source><flickrid>341012865</flickrid></source>
<size><width>40</width><height>30</height><depth>3</depth></size>
<object><name>diningtable</name><part><name>leg</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax>
<ymax>2</ymax></bndbox></part><bndbox><xmin>1</xmin><ymin>3</ymin><xmax>40</xmax><ymax>30</ymax></bndbox></object>
<object><name>dog</name><bndbox><xmin>8</xmin><ymin>3</ymin><xmax>{xmax}</xmax><ymax>30</ymax></bndbox></object>
</annotation>"""
BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><annotation>&b;</annotation>'
ENTITY = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotation><filename>&x;</filename></annotation>'


def read(kind, root, problems=None, pictures=None, **options):
    return list(read_source(kind, root, problems or Problems(strict=True), pictures, **options))


def voc(root, text, names="1\n"):
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text(names)
    (root / "Annotations/1.xml").write_text(text)
    return root


def test_voc_counts_from_one_and_parts_are_not_objects(tmp_path):
    (record,) = read("pascal_voc", voc(tmp_path, VOC.format(xmax=20)))
    assert [(one.name, one.box) for one in record.objects] == [
        ("dining table", Box(0, 2, 40, 30)),
        ("dog", Box(7, 2, 20, 30)),
    ]
    assert record.picture.same_as == ("flickr:341012865",)
    assert record.split == "train"
    assert record.vocabulary.exhaustive


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (VOC.format(xmax="3"), "inverted box"),
        (VOC.format(xmax="x"), "malformed box"),
        (VOC.format(xmax=90), "box beyond the edge"),
        (VOC.format(xmax=20).replace("<name>dog</name>", ""), "object without a name"),
        (VOC.format(xmax=20).replace("<width>40", "<width>0"), "malformed picture"),
        (VOC.format(xmax=20).replace("<filename>", "<filename>../../"), "malformed picture"),
        (VOC[:90], "damaged file"),
        ("", "damaged file"),
        (BOMB, "damaged file"),
        (ENTITY, "damaged file"),
    ],
)
def test_bad_voc_files_are_named_and_nothing_is_fetched(tmp_path, text, kind):
    problems = Problems()
    read("pascal_voc", voc(tmp_path, text, "1\n1\n\n../1\n"), problems)
    assert problems.counts[kind] >= 1
    assert problems.counts["duplicate id"] == 1
    assert "Annotations/1.xml" in problems.examples[0].place
    with pytest.raises(InputError):
        read("pascal_voc", tmp_path)


REFS = [
    {
        "ref_id": 1,
        "ann_id": 10,
        "image_id": 1,
        "split": "train",
        "sentences": [{"sent": "left dog", "sent_id": 5}, {"sent": "the dog", "sent_id": 6}],
    },
    {
        "ref_id": 2,
        "ann_id": 11,
        "image_id": 1,
        "split": "train",
        "sentences": [{"sent": "cat", "sent_id": 7}],
    },
    {"ref_id": 3, "ann_id": 10, "image_id": 1, "split": "train", "sentences": [{"sent": "it", "sent_id": 9}]},
    {"ref_id": 4, "ann_id": 12, "image_id": 2, "split": "val", "sentences": [{"sent": "x", "sent_id": 8}]},
]
INSTANCES = {
    "images": [
        {"id": key, "file_name": f"COCO_train2014_{key}.jpg", "width": 40, "height": 30} for key in (1, 2)
    ],
    "annotations": [{"id": key, "image_id": 1, "bbox": [key - 8, 2, 5, 6]} for key in (10, 11)],
}


def refcoco(making, root, refs):
    making.write_json(root / "instances.json", INSTANCES)
    (root / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    return root


def test_refcoco_in_its_original_files(making, tmp_path):
    (record,) = read("refcoco", refcoco(making, tmp_path, REFS))
    assert [one.box for one in record.objects] == [Box(2, 2, 7, 8), Box(3, 2, 8, 8)]
    assert [(one.text, one.object) for one in record.expressions] == [
        ("left dog", 0),
        ("the dog", 0),
        ("cat", 1),
        ("it", 0),
    ]
    assert record.picture.same_as == ("coco:1",)
    with pytest.raises(InputError, match="no split 'testA': give one of train, val"):
        read("refcoco", tmp_path, split="testA")


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil",))


@pytest.mark.parametrize("refs", [[Evil()], [3], {"a": 1}])
def test_a_pickle_runs_nothing(making, tmp_path, monkeypatch, refs):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"refs\(unc\)\.p"):
        read("refcoco", refcoco(making, tmp_path, refs))
    assert not (tmp_path / "evil").exists()


def test_bad_references_are_counted(making, tmp_path):
    refs = [
        *REFS,
        {"ref_id": 5, "ann_id": 99, "image_id": 1, "split": "train", "sentences": [{"sent": "no"}]},
    ]
    refs += [{"ref_id": 6, "ann_id": 10, "image_id": 77, "split": "train", "sentences": None}]
    refs += [{"ref_id": 7, "ann_id": 10, "image_id": 1, "split": "train", "sentences": None}]
    problems = Problems()
    (record,) = read("refcoco", refcoco(making, tmp_path, refs), problems)
    assert len(record.expressions) == 4
    assert problems.counts == {"malformed box": 1, "unknown picture": 1, "reference without words": 1}


def test_refcoco_in_mdetrs_json(making, tmp_path):
    images = [
        {
            "id": key,
            "original_id": picture,
            "file_name": "a.jpg",
            "width": 40,
            "height": 30,
            "caption": caption,
        }
        for key, picture, caption in ((0, 7, "left dog"), (1, 8, "cat"), (2, 7, "right dog"))
    ]
    boxes = [
        {"id": key, "image_id": key, "original_id": 50 + key, "bbox": [key, 2, 5, 6]} for key in range(3)
    ]
    making.write_json(tmp_path / "finetune_refcoco+_train.json", {"images": images, "annotations": boxes})
    first, second = read("refcoco", tmp_path, dataset="refcoco+")
    assert [(one.text, one.object) for one in first.expressions] == [("left dog", 0), ("right dog", 1)]
    assert first.picture.source == "refcoco+"
    assert second.objects[0].id == "51"


def test_refcocos_missing_files_are_named(making, tmp_path):
    with pytest.raises(InputError, match=r"refs\(\*\)\.p.*instances\.json.*finetune_refcoco_train\.json"):
        read("refcoco", tmp_path)
    (tmp_path / "refs(unc).p").write_bytes(b"")
    with pytest.raises(InputError, match=r"missing are instances\.json"):
        read("refcoco", tmp_path)


def flickr(root, **changes):
    files = {
        "Annotations/36979.xml": """<annotation><filename>36979.jpg</filename>
<size><width>400</width><height>300</height><depth>3</depth></size><object><name>1</name><name>2</name><bndbox><xmin>10</xmin><ymin>30</ymin><xmax>200</xmax>
<ymax>300</ymax></bndbox></object><object><name>3</name><scene>1</scene><nobndbox>1</nobndbox></object></annotation>""",
        "Sentences/36979.txt": "[/EN#1/people A child] in [/EN#3/scene the park] .\n[/EN#2/people Someone] runs .\n",
        "train.txt": "36979\n",
    } | changes
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_flickr30k_entities(making, tmp_path):
    (record,) = read("flickr30k_entities", flickr(tmp_path))
    assert record.captions[0].text == "A child in the park ."
    child, park = record.captions[0].phrases
    assert (child.text, child.boxes, child.kind) == ("A child", (Box(10, 30, 200, 300),), "people")
    assert park.boxes == ()
    assert record.picture.same_as == ("flickr30k:36979", "flickr:36979")
    making.write_picture(tmp_path / "squashed" / "36979.jpg")
    (squashed,) = read("flickr30k_entities", tmp_path, pictures=tmp_path / "squashed")
    assert squashed.captions[0].phrases[0].boxes == (Box(1, 3, 20, 30),)


@pytest.mark.parametrize(
    ("name", "text"), [("Annotations/36979.xml", BOMB), ("Annotations/36979.xml", "<a"), ("train.txt", "1\n")]
)
def test_bad_flickr30k_files_are_named(tmp_path, name, text):
    problems = Problems()
    assert read("flickr30k_entities", flickr(tmp_path, **{name: text}), problems) == []
    assert problems.counts == {"damaged file": 1}
    with pytest.raises(InputError):
        read("flickr30k_entities", tmp_path)


def test_flickr30ks_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"Annotations .*Sentences .*val\.txt"):
        read("flickr30k_entities", tmp_path, split="val")


def entry(**changes):
    said = [{"from": "human", "value": "What is it?\n<image>"}, {"from": "gpt", "value": "A <box:0> cat."}]
    return {"id": "000000033471", "image": "000000033471.jpg", "conversations": said} | changes


def test_llava_instruct(making, tmp_path):
    making.write_json(tmp_path / "detail_23k.json", [entry()])
    (record,) = read("llava_instruct", tmp_path)
    question, answer = record.dialogues[0].turns
    assert (question.text, answer.text) == ("What is it?", "A <\\box:0> cat.")
    assert not record.picture.known_size
    assert record.picture.same_as == ("coco:33471",)
    making.write_picture(tmp_path / "train2017" / "000000033471.jpg")
    (record,) = read("llava_instruct", tmp_path, pictures=tmp_path / "train2017", part="detail_23k.json")
    assert (record.picture.width, record.picture.height) == (40, 30)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"conversations": []}, "malformed conversation"),
        ({"conversations": [{"from": "gpt", "value": "a"}] * 2}, "malformed conversation"),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": ""}]},
            "malformed conversation",
        ),
        ({"image": None}, "no picture"),
    ],
)
def test_bad_llava_entries_are_counted(making, tmp_path, changes, kind):
    path = making.write_json(tmp_path / "a.json", [entry(**changes), 3, entry()])
    problems = Problems()
    assert len(read("llava_instruct", path, problems)) == 1
    assert problems.counts[kind] >= 1
    assert problems.total == 2
    making.write_json(path, {"a": 1})
    with pytest.raises(InputError, match="a list of conversations"):
        read("llava_instruct", path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data is not there")
def test_a_genuine_voc_file():
    (record,) = read("pascal_voc", SHARED / "formats/voc")
    assert [(one.name, one.box) for one in record.objects] == [
        ("dog", Box(47, 239, 195, 371)),
        ("person", Box(7, 11, 352, 498)),
    ]
