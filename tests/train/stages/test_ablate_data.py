from __future__ import annotations

from openferret.train.stages.ablate_data import GROUNDING, REFERRING, VARIANTS, absent_classes
from openferret.train.stages.pictures import Named, Record
from openferret.train.stages.trunk import WEIGHTS

BOX = (0.0, 0.0, 1.0, 1.0)


def record(row, *texts):
    named = tuple(Named(text, text.split()[-1], (BOX,), False) for text in texts)
    return Record(row, named, frozenset(one.head for one in named), False)


def test_every_loss_is_of_one_task():
    assert sorted(GROUNDING + REFERRING) == sorted(WEIGHTS)
    assert [one.name for one in VARIANTS if not one.dropped] == ["everything", "without hard negatives"]


def test_hard_classes_come_as_often_as_they_occur_and_easy_ones_once():
    records = [record(0, "a cat", "a cat"), record(1, "a cat", "a dog")]
    assert [one.head for one in absent_classes(records, hard=True)] == ["cat", "cat", "cat", "dog"]
    assert [one.head for one in absent_classes(records, hard=False)] == ["cat", "dog"]
