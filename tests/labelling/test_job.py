import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openferret.answer import Answer
from openferret.cli.results import open_results
from openferret.errors import InputError
from openferret.labelling.job import (
    Labelling,
    begun_differently,
    class_of,
    label_pictures,
    parse_names,
    read_labelled,
)

CATS = Labelling(("cat", "dog"), None, {"model": "kit", "seed": 0})


@given(st.text(max_size=60))
def test_names_are_read_or_refused(text):
    try:
        names = parse_names(text)
    except InputError:
        return
    assert names
    assert len({class_of(name) for name in names}) == len(names)
    assert all(name == " ".join(name.split()) and "," not in name for name in names)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" , ", "is empty"),
        ("cat,Cat", "one class"),
        ("parking sign,no parking sign", "one class"),
        ("x" * 300, "too long"),
        ("a\x1b[31m", "not printable"),
        ("[0]", "no regions"),
        (",".join(f"n{n}" for n in range(1001)), "1001 names"),
    ],
)
def test_names_that_cannot_be_classes(text, said):
    with pytest.raises(InputError, match=said):
        parse_names(text)


class Counting:
    """A model that counts what it reads, and stops as told."""

    def __init__(self, stop_after=99, scores=(0.9, 0.2)):
        self.read, self.stop_after, self.scores = 0, stop_after, scores

    def encode(self, image):
        if self.read == self.stop_after:
            raise KeyboardInterrupt
        self.read += 1
        return self

    def ground(self, names, threshold=None):
        form = {"text": "", "image": {"width": 60, "height": 40}, "mentions": []}
        boxes = [{"pixels": [0, 0, 6, 4], "normalized": [0, 0, 0.1, 0.1], "score": s} for s in self.scores]
        form["mentions"] = [{"phrase": name, "span": [0, 0], "boxes": boxes} for name in names]
        return Answer.from_dict(form)


def work(pictures, out, model, labelling=CATS):
    with open_results(out) as results:
        return list(label_pictures(pictures, labelling, results, lambda: model))


def test_an_interrupted_job_loses_nothing_and_asks_nothing_twice(labelled, tmp_path):
    pictures = [labelled(f"{n}.png", {}).source for n in range(5)]
    out = tmp_path / "labels.jsonl"
    first, second = Counting(stop_after=2), Counting()
    with pytest.raises(KeyboardInterrupt):
        work(pictures, out, first)
    with out.open("a") as stream:  # killed in the middle of a line
        stream.write('{"file": "/pict')
    outcomes = work(pictures, out, second)
    assert (first.read, second.read) == (2, 3)
    assert [outcome is None for _, outcome in outcomes] == [True, True, False, False, False]
    assert [one.name for one in read_labelled(out, pictures, CATS)] == [f"{n}.png" for n in range(5)]
    assert len(out.read_text().splitlines()) == 5


def test_a_bad_picture_is_said_and_tried_again(labelled, tmp_path):
    good, bad = labelled("a.png", {}).source, tmp_path / "b.png"
    bad.write_text("no picture")
    out = tmp_path / "labels.jsonl"
    model = Counting()
    assert isinstance(work([bad, good], out, model)[0][1], InputError)
    assert [one.source for one in read_labelled(out, [bad, good], CATS)] == [good]
    bad.write_bytes(good.read_bytes())
    assert [outcome is None for _, outcome in work([bad, good], out, model)] == [False, True]


def test_a_threshold_holds_for_each_box(labelled, tmp_path):
    picture = labelled("a.png", {}).source
    out = tmp_path / "labels.jsonl"
    strict = Labelling(CATS.names, 0.5, CATS.settings)
    work([picture], out, Counting(), strict)
    assert next(read_labelled(out, [picture], strict)).scores == [0.9, 0.9]


def test_a_folder_begun_for_other_names_is_known(labelled, tmp_path):
    out = tmp_path / "labels.jsonl"
    work([labelled("a.png", {}).source], out, Counting())
    assert not begun_differently(out, CATS)
    assert begun_differently(out, Labelling(("cat",), None, CATS.settings))
    assert list(read_labelled(out, [Path("a.png")], Labelling(("cat",), None, {}))) == []


@pytest.mark.parametrize("line", ["[]", "{}", "nonsense", json.dumps({"request": CATS.request()})])
def test_a_file_of_another_kind_is_refused(tmp_path, line):
    out = tmp_path / "labels.jsonl"
    out.write_text(line + "\n")
    with pytest.raises(InputError, match="cannot be read"):
        list(read_labelled(out, [], CATS))
