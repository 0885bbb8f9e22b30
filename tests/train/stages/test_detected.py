import json

import numpy as np
import pytest

from openferret.errors import InputError
from openferret.train.stages.detected import Companions, Detection, read_detections, with_detections
from openferret.train.stages.pictures import Named, Record
from openferret.train.stages.run_detector import merged_views

LEFT, RIGHT, MIDDLE = (0.0, 0.0, 0.4, 1.0), (0.6, 0.0, 1.0, 1.0), (0.3, 0.3, 0.7, 0.7)
CLASSES = ("chair", "cup", "dog", "person")
SAID = Record(
    7, (Named("a brown dog", "dog", (LEFT,), False),), frozenset({"dog"}), False, name="flickr30k:7"
)


def detections(*found):
    return [Detection(*one) for one in found]


def test_what_a_detector_sees_is_named_beside_what_was_said_and_marked():
    record = with_detections(SAID, detections(("chair", 0.9, MIDDLE)), CLASSES)
    assert [(one.text, one.detected) for one in record.named] == [("a brown dog", 0), ("a chair", 0.9)]
    assert record.names() == {LEFT: {"dog": 1.0}, MIDDLE: {"chair": 1.0}}


def test_a_box_that_a_person_drew_keeps_its_place_and_its_name():
    record = with_detections(SAID, detections(("cup", 0.9, (0.0, 0.0, 0.42, 1.0))), CLASSES)
    assert record.named[1].boxes == (LEFT,)
    assert record.names() == {LEFT: {"dog": 1.0}}


def test_what_a_detector_is_not_sure_of_is_looked_for_but_names_nothing():
    record = with_detections(SAID, detections(("chair", 0.2, MIDDLE)), CLASSES)
    assert record.named[1].text == "a chair"
    assert MIDDLE not in record.names()


def test_a_detected_person_is_there_but_names_no_box():
    record = with_detections(SAID, detections(("person", 0.9, RIGHT)), CLASSES)
    assert record.people
    assert record.named[1].people
    assert RIGHT not in record.names()


def test_absent_is_what_was_neither_seen_nor_said_nor_perhaps_there():
    found = detections(("chair", 0.06, MIDDLE), ("cup", 0.03, MIDDLE))
    record = with_detections(SAID, found, CLASSES)
    assert record.named == SAID.named
    assert set(record.absent) == {"cup", "person"}
    assert "chair" in record.heads


def test_people_whom_only_a_caption_knows_are_not_absent():
    people = Record(1, (Named("a man", "man", (LEFT,), True),), frozenset({"man"}), True)
    assert "person" not in with_detections(people, detections(("cup", 0.9, MIDDLE)), CLASSES).absent


def test_several_of_a_class_are_one_phrase_more_and_a_crowd_is_cut_short():
    boxes = [(0.1 * k, 0.0, 0.1 * k + 0.08, 0.1) for k in range(8)]
    record = with_detections(
        SAID, detections(*[("cup", 0.9 - 0.1 * k, b) for k, b in enumerate(boxes)]), CLASSES
    )
    texts = [one.text for one in record.named if one.detected]
    assert texts == ["the cups", *["a cup"] * 4]
    assert record.named[1].boxes == tuple(boxes[:4])


def test_companions_are_absent_and_mostly_what_is_seen_beside_what_is_there():
    chairs = [with_detections(SAID, detections(("chair", 0.9, MIDDLE), ("cup", 0.9, RIGHT)), CLASSES)] * 2
    other = Record(8, (), frozenset(), False, name="flickr30k:8")
    asked = with_detections(other, detections(("chair", 0.9, MIDDLE)), CLASSES)
    companions = Companions.of([*chairs, asked])
    generator = np.random.default_rng(0)
    drawn = {companions.absent(asked, generator) for _ in range(50)}
    assert drawn - {None} == {"a cup"}
    assert companions.absent(SAID, generator) is None, (
        "where no detector has been, nothing is known to be absent"
    )


def test_a_file_is_read_by_picture(tmp_path):
    path = tmp_path / "detected.jsonl"
    lines = [{"picture": "flickr30k:7", "class": "cup", "score": 0.5, "box": [0, 0, 1, 0.5]}] * 2
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert read_detections(path) == {"flickr30k:7": (Detection("cup", 0.5, (0.0, 0.0, 1.0, 0.5)),) * 2}


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "null",
        '{"picture": "a", "class": "cup", "score": 0.5}',
        '{"picture": "a", "class": "cup", "score": "high", "box": [0, 0, 1, 1]}',
        '{"picture": "a", "class": "cup", "score": 0.5, "box": [0, 0, 1]}',
        '{"picture": "a", "class": "cup", "score": 0.5, "box": [0.5, 0, 0.5, 1]}',
        '{"picture": "a", "class": "cup", "score": 0.5, "box": [0, 0, 300, 300]}',
        '{"picture": "a", "class": "cup", "score": 0.5, "box": [NaN, 0, 1, 1]}',
    ],
)
def test_a_malformed_line_is_named(tmp_path, line):
    path = tmp_path / "detected.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match="line 1"):
        read_detections(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.jsonl"):
        read_detections(tmp_path / "nowhere.jsonl")


def test_two_views_agree_or_count_half():
    upright = detections(("cup", 0.8, LEFT), ("dog", 0.6, RIGHT))
    mirrored = detections(("cup", 0.4, LEFT), ("chair", 0.2, LEFT))
    scores = {one.name: one.score for one in merged_views(upright, mirrored)}
    assert scores == pytest.approx({"cup": 0.6, "dog": 0.3, "chair": 0.1})
