import pickle

import pyarrow as pa
import pytest

from openferret.data.building.record_files import in_batches, read_records, write_records
from openferret.data.outlines import Polygons, RunLengths
from openferret.data.records import (
    AnnotatedObject,
    Caption,
    Category,
    Dialogue,
    Expression,
    Phrase,
    QuestionAnswer,
    Record,
    RegionDescription,
    Relationship,
    Vocabulary,
)
from openferret.data.schema import PictureReference, Turn
from openferret.errors import InputError
from openferret.regions import Box, Polygon

BOX = Box(1, 2, 30.5, 40)
VOCABULARY = Vocabulary((Category(1, "dog", ("hound",), "dog.n.01", ("animal",), "f"),), True)
RECORD = Record(
    PictureReference("a/1.jpg", 64, 48, "mine", "1", ("coco:7",), "0f" * 8),
    "CC0",
    (
        AnnotatedObject("1", BOX, ("dog",), ("red",), "dog.n.01", RunLengths(48, 64, "abc"), True),
        AnnotatedObject("2", BOX, ("cat",), outline=Polygons((Polygon([(1, 1), (9, 2), (3, 8)]),))),
    ),
    (Relationship(0, "beside", 1, "r"),),
    (RegionDescription(BOX, "a dog", "d"),),
    (Caption("A dog.", (Phrase("A dog", (0, 5), (BOX,), "animals", "7"),), "0"),),
    (QuestionAnswer("What?", "A dog.", (0,), (1,), "q"),),
    (Expression("the dog", 0, "e"),),
    (Dialogue((Turn("user", "Hi"), Turn("assistant", "Ho")), "c"),),
    VOCABULARY,
    ("horse",),
    ("cat",),
    "train",
)


def test_records_come_back_as_they_were(tmp_path):
    write_records(tmp_path / "0.rec", [RECORD, RECORD])
    back = read_records(tmp_path / "0.rec")
    assert back == [RECORD, RECORD]
    assert back[0].vocabulary is back[1].vocabulary


@pytest.mark.parametrize(
    "content", [b"", b"no", pickle.dumps(["a"]), pickle.dumps(print), pickle.dumps(RECORD)]
)
def test_what_is_no_file_of_records_is_refused_and_not_run(tmp_path, content):
    with pa.CompressedOutputStream(str(tmp_path / "0.rec"), "zstd") as file:
        file.write(content)
    with pytest.raises(InputError, match="build again"):
        read_records(tmp_path / "0.rec")


def test_a_file_that_is_cut_off(tmp_path):
    write_records(tmp_path / "0.rec", [RECORD])
    content = (tmp_path / "0.rec").read_bytes()
    (tmp_path / "0.rec").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="build again"):
        read_records(tmp_path / "0.rec")


def test_batches():
    assert list(in_batches(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(in_batches([], 2)) == []
