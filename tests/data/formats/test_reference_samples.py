import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openferret.data.formats.reference_json import expand_sample
from openferret.data.formats.reference_samples import (
    from_reference,
    read_reference,
    to_reference,
    write_reference,
)
from openferret.data.outlines import RunLengths
from openferret.data.problems import Problems
from openferret.errors import InputError
from openferret.masks import encode_rle
from openferret.regions import Box

MASK = encode_rle(np.pad(np.ones((10, 10), bool), ((5, 65), (3, 107))))


def record(**changes):
    return {
        "id": 0,
        "image": "img.jpg",
        "image_w": 120,
        "image_h": 80,
        "box_x1y1x2y2": [[[25, 22, 75, 58], [0, 0, 119, 79]], [[-3, 5, 130, 70.5]], [[1, 1, 5, 5]], []],
        "masks": [[MASK], [], [], []],
        "conversations": [
            {"from": "human", "value": "<image>\nHow do <bbox_location0> and <bbox_location1> relate?"},
            {"from": "gpt", "value": "man <bbox_location0> on a horse."},
            {"from": "human", "value": "And <bbox_location0>?"},
            {"from": "gpt", "value": "grass"},
        ],
    } | changes


SHARED = Path(os.environ.get("OPENFERRET_SHARED", Path(__file__).parents[3] / "shared"))
FIXTURES = ("vg_objects", "refexp_all", "vg_relations")

CASES = [
    record(),
    record(id="a"),
    record(id=None),
    record(other={"a": [1]}),
    {key: value for key, value in record().items() if key != "masks"},
    record(masks=[[], [], [], []]),
    record(masks=[[MASK, MASK], [MASK], [], []]),
    record(
        conversations=[
            {**turn, "value": turn["value"] + " <box:0> <\\phrase>"} for turn in record()["conversations"]
        ]
    ),
    {
        "id": 1,
        "image": "1.jpg",
        "conversations": [{"from": "human", "value": "Hi\n<image>"}, {"from": "gpt", "value": "a"}],
    },
    {"id": 1, "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "a"}]},
]


@pytest.mark.parametrize("given_record", CASES, ids=range(len(CASES)))
def test_records_come_back(given_record):
    sample = from_reference(given_record)
    assert to_reference(sample) == given_record
    assert type(sample).from_dict(sample.to_dict()) == sample


@pytest.mark.parametrize("name", FIXTURES)
def test_the_references_own_files_come_back(name):
    path = SHARED / "reference" / "parity" / "data" / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"the reference's training items ({path.name}) are not here")
    records = json.loads(path.read_text())
    assert [to_reference(sample) for sample in read_reference(path, Problems(strict=True))] == records


def test_placeholders_become_regions_of_one_table():
    sample = from_reference(record())
    assert sample.turns[0].text == "How do <region:0> and <region:1> relate?"
    assert sample.turns[1].text == "man <box:2> on a horse."
    assert sample.regions[2] == Box(-3, 5, 130, 70.5)
    assert sample.mask(0) == RunLengths.from_dict(MASK)
    assert sample.mask(1) is None


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_samples_come_back(making, data):
    sample = data.draw(making.samples())
    assert from_reference(json.loads(json.dumps(to_reference(sample)))) == sample


def test_an_edited_record_is_read_anew_and_keeps_where_it_is_from(making):
    sample = making.sample(task="object", negative=True)
    changed = to_reference(sample)
    changed["conversations"][1]["value"] = "No cat <bbox_location0> <bbox_location1>"
    found = from_reference(changed)
    assert found.turns[1].text == "No cat <box:1> <box:2>"
    assert (found.task, found.negative) == ("object", True)


def test_what_is_written_trains_as_the_reference_does(making):
    import random

    item = expand_sample(to_reference(making.sample(), plain=True), "center", random.Random(1))
    assert item.turns[0][1] == "A cat [25, 66, 500, 833] by a mat [87, 133, 225, 966]."
    assert len(item.masks) == 1


def test_regions_that_are_no_boxes_have_a_box_and_a_mask(making):
    from openferret.regions import Polygon

    polygon = Polygon([(2, 3), (6, 3), (6, 9), (2, 9)])
    turns = (making.Turn("user", "<region:0> <region:1>"), making.Turn("assistant", "a"))
    plain = to_reference(making.sample(turns=turns, regions=(Box(1, 2, 3, 4), polygon)), plain=True)
    assert plain["box_x1y1x2y2"] == [[[1, 2, 3, 4], [2, 3, 6, 9]], []]
    assert [RunLengths.from_dict(one).mask().array.sum() for one in plain["masks"][0]] == [4, 24]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conversations": []}, "an answer to every question"),
        ({"conversations": [{"from": "gpt", "value": "a"}]}, "turn 0 should be the human's"),
        ({"conversations": None}, "NoneType"),
        ({"box_x1y1x2y2": [], "masks": None}, "<bbox_location0> has no box"),
        ({"box_x1y1x2y2": [[[5, 22, 3, 58], [0, 0, 9, 9]], [[1, 1, 2, 2]], [[1, 1, 2, 2]]]}, "wrong order"),
        ({"box_x1y1x2y2": [[[5, 22], [5, 22]]]}, "Box"),
        ({"box_x1y1x2y2": [7]}, "a list for each turn"),
        ({"image_w": None}, "two whole numbers"),
        ({"image": 3}, "must be text"),
        ({"masks": [[MASK] * 3]}, "3 masks for 2 boxes"),
        ({"masks": [[{"size": [3, 3], "counts": "12"}], []]}, "mask 0 is 3 x 3"),
    ],
)
def test_records_that_cannot_be_used_are_named(changes, said):
    with pytest.raises(InputError, match=f"sample 0: .*{said}"):
        from_reference(record(**changes))


@pytest.mark.parametrize("junk", [None, [], {}, {"id": 1}, {"id": 1, "openferret": 3}, 7])
def test_junk_is_refused(junk):
    with pytest.raises(InputError):
        from_reference(junk)


def test_words_that_the_format_would_fill_are_refused(making):
    turns = (making.Turn("user", "<bbox_location0>"), making.Turn("assistant", "a"))
    with pytest.raises(InputError, match="sample s1: its words have <bbox_locationN>"):
        to_reference(making.sample(turns=turns, regions=()))


def test_files_are_streamed_and_bad_records_counted(making, tmp_path):
    path = tmp_path / "train.json"
    samples = [making.sample(id=f"s{number}") for number in range(3)]
    assert write_reference(path, samples) == 3
    assert list(read_reference(path, Problems(strict=True))) == samples
    records = json.loads(path.read_text())
    records[1]["conversations"] = []
    path.write_text(json.dumps(records)[:-40])
    problems = Problems()
    assert list(read_reference(path, problems)) == samples[:1]
    assert problems.counts == {"malformed sample": 1, "damaged file": 1}
    with pytest.raises(InputError, match=r"train\.json sample 1: sample s1"):
        list(read_reference(path, Problems(strict=True)))


def test_an_extra_of_others_does_no_harm(making):
    for extra in ({"reference": 3}, {"reference": {"with": None}}, {"reference": {"with": {"id": 9}}}):
        sample = dataclasses.replace(making.sample(), extra=extra)
        assert from_reference(to_reference(sample)) == sample
