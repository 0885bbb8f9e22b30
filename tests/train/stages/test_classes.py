from __future__ import annotations

import numpy as np
import pytest

from openferret.train.stages.classes import balanced_classes, class_names
from openferret.train.stages.pictures import Named, Record

BOX = (0.1, 0.1, 0.4, 0.4)


def record(row, *names):
    named = tuple(Named(f"a {name}", name, (BOX,), name == "person") for name in names)
    return Record(row, named, frozenset(names), "person" in names, name=f"coco:{row}")


def random_records(count, people=0.25):
    generator = np.random.default_rng(0)
    shares = {"person": people, "chair": 0.3, "cup": 0.25, "dog": 0.15, "bus": 0.1, "kite": 0.05}
    records = [
        record(row, *(name for name, share in shares.items() if generator.random() < share))
        for row in range(count)
    ]
    return [one for one in records if one.named]


def test_each_class_is_asked_for_as_often_in_vain_as_not():
    records = random_records(400)
    classes = balanced_classes(records)
    there = dict.fromkeys(classes.names, 0.0)
    absent = dict.fromkeys(classes.names, 0.0)
    generator = np.random.default_rng(1)
    for one in records * 30:
        names = class_names(one)
        for name in names:
            there[name] += 1 / len(names)
        if (name := classes.absent(one, generator)) is not None:
            absent[name] += 1
    for name in classes.names:
        assert absent[name] == pytest.approx(there[name], rel=0.12)


def test_a_class_of_nearly_every_picture_does_not_displace_the_others():
    classes = balanced_classes(random_records(400, people=0.8))
    assert (classes.weights > 0.001).all()


def test_pictures_count_once_and_captions_make_no_class():
    once, often = balanced_classes(random_records(20)), balanced_classes(random_records(20) * 4)
    assert once.names == often.names
    np.testing.assert_array_equal(once.weights, often.weights)
    assert balanced_classes([]) is None


def test_a_class_that_is_everywhere_is_never_absent():
    records = [record(1, "person", "dog"), record(2, "person")]
    classes = balanced_classes(records)
    assert np.isfinite(classes.weights).all()
    assert classes.absent(records[0], np.random.default_rng(0)) is None
    assert {classes.absent(records[1], np.random.default_rng(seed)) for seed in range(9)} == {"a dog"}
