import json

import pytest

from openferret.data.formats.exporters import FORMS, export_samples, to_llama_factory, to_llava, to_ms_swift
from openferret.data.schema import Turn
from openferret.errors import InputError
from openferret.regions import Box, Point


@pytest.mark.parametrize(
    ("space", "answer", "stated"),
    [
        ("bins", "A cat [25, 66, 500, 833] by a mat [87, 133, 225, 966].", "bins 0..999"),
        ("pixels", "A cat [1, 2, 20, 25] by a mat [4, 4, 9, 30].", "pixels"),
        (
            "normalized",
            "A cat [0.025, 0.067, 0.500, 0.833] by a mat [0.087, 0.133, 0.225, 1.000].",
            "normalized 0..1",
        ),
    ],
)
def test_the_space_of_boxes_is_stated(making, space, answer, stated):
    for record in (to_llava(making.sample(), space), to_llama_factory(making.sample(), space)):
        turns = record.get("conversations") or record["messages"]
        assert (turns[1].get("value") or turns[1]["content"]) == answer
        assert record["coordinates"] == stated
        assert record["image_size"] == [40, 30]


def test_llava_has_its_keys(making):
    record = to_llava(making.sample())
    assert record["image"] == "a/1.jpg"
    assert record["conversations"][0] == {"from": "human", "value": "<image>\nWhat is [25, 66, 500, 833]?"}


def test_ms_swift_fills_phrases_and_boxes_in_order(making):
    record = to_ms_swift(making.sample())
    assert [turn["content"] for turn in record["messages"]] == [
        "<image>What is <bbox>?",
        "<ref-object><bbox> by <ref-object><bbox>.",
    ]
    cat, mat = [1, 2, 20, 25], [3.5, 4, 9, 30]
    assert record["objects"] == {"ref": ["A cat", "a mat"], "bbox": [cat, cat, mat], "bbox_type": "real"}
    normalized = to_ms_swift(making.sample(), "normalized")["objects"]
    assert normalized["bbox_type"] == "norm1"
    assert max(map(max, normalized["bbox"])) <= 1
    with pytest.raises(InputError, match="pixels or normalized"):
        to_ms_swift(making.sample(), "bins")


def test_ms_swift_is_not_given_words_that_it_would_fill(making):
    turns = (Turn("user", "What does <bbox> mean?"), Turn("assistant", "A box."))
    with pytest.raises(InputError, match="sample s1"):
        to_ms_swift(making.sample(turns=turns, regions=()))


def test_points_stay_points_and_boxes_are_clipped(making):
    turns = (Turn("user", "<region:0> or <region:1>?"), Turn("assistant", "The first."))
    sample = making.sample(turns=turns, regions=(Point(10, 15), Box(-5, 5, 100, 10)))
    assert to_llava(sample, "pixels")["conversations"][0]["value"] == "<image>\n[10, 15] or [0, 5, 40, 10]?"
    assert to_ms_swift(sample)["objects"]["bbox"] == [[10, 15], [0, 5, 40, 10]]


def test_a_conversation_without_a_picture_has_none(making):
    sample = making.sample(picture=None, turns=(Turn("user", "Hi"), Turn("assistant", "Hello")), regions=())
    for write in (to_llava, to_llama_factory, lambda one: to_ms_swift(one, "pixels")):
        assert "<image>" not in json.dumps(write(sample))


@pytest.mark.parametrize("form", FORMS)
def test_files_are_lists(making, tmp_path, form):
    samples = [making.sample(id=f"s{number}") for number in range(3)]
    assert export_samples(tmp_path / "out.json", iter(samples), form) == 3
    assert [one["id"] for one in json.loads((tmp_path / "out.json").read_text())] == ["s0", "s1", "s2"]
    assert (tmp_path / "dataset_info.json").exists() == (form == "llama-factory")


def test_unknown_forms_and_spaces(making, tmp_path):
    for form, space in (("yolo", None), ("llava", "miles")):
        with pytest.raises(InputError, match="known are"):
            export_samples(tmp_path / "out.json", [making.sample()], form, space)
    assert list(tmp_path.iterdir()) == []
