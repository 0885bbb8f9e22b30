import pytest

from openferret.eval.metrics.hallucination import objects_named, own_synonyms, read_synonyms


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        ("A hot dog on a dining table", ["hot dog", "dining table"]),
        ("Women ride bikes past fire hydrants", ["person", "bicycle", "fire hydrant"]),
        ("a teddy bear", ["teddy bear"]),
        ("wine glasses and knives", ["wine glass", "knife"]),
        ("buses, skis, and two sheep", ["bus", "skis", "sheep"]),
        ("blue sky", []),
        ("", []),
    ],
)
def test_objects(text, objects):
    assert objects_named(text, own_synonyms()) == objects


def test_there_are_eighty_classes_and_no_word_has_two():
    table = own_synonyms()
    assert len(set(table.values())) == 80


def test_the_published_layout_is_read():
    table = read_synonyms("person, girl\nhot dog\n\n")
    assert objects_named("Girls eat hot dogs", table) == ["person", "hot dog"]
