"""A conversation knows what was pointed at before."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openferret.cli.chat import Pointer
from openferret.errors import InputError
from openferret.regions import Box, Point


def test_regions_are_numbered_over_the_conversation(run, ferret, photo):
    typed = "what is [box 1,2,30,20]?\n\nand [point 5,6] next to [0]?\n[0]\nquit\nnever said\n"
    result = run("chat", photo(), typed=typed)
    assert result.exit_code == 0
    assert [call[1:3] for call in ferret.calls[1:]] == [
        ("what is [0]?", [Box(1, 2, 30, 20)]),
        ("and [0] next to [1]?", [Point(5, 6), Box(1, 2, 30, 20)]),
        ("[0]", [Box(1, 2, 30, 20)]),
    ]


def test_a_bad_line_is_reported_and_the_rest_goes_on(run, ferret, photo):
    result = run("chat", photo(), typed="[box 1,2]\nwhat is [4]?\nhello\n")
    assert result.stderr.count("error: ") == 2
    assert [call[1] for call in ferret.calls[1:]] == ["hello"]
    assert result.exit_code == 3


def test_json_drawing_and_results(run, photo, tmp_path):
    out, drawn = tmp_path / "out.jsonl", tmp_path / "drawn.png"
    result = run("chat", photo(), "--json", "--out", out, "--draw", drawn, typed="hello\n")
    assert json.loads(result.stdout)["text"] == "a cat"
    assert json.loads(out.read_text())["request"]["say"] == "hello"
    assert drawn.exists()


def test_bad_pictures_and_bytes(refuse, run, photo, tmp_path):
    refuse("chat", tmp_path / "missing.png", typed="hello\n")
    result = run("chat", photo(), typed=b"\xff\xff\n")
    assert result.exit_code == 2
    assert "UTF-8" in result.stderr


def test_an_answer_that_cannot_be_drawn_is_still_said(run, photo, tmp_path, monkeypatch):
    drawn = tmp_path / "drawn.png"

    def refused(*_):
        raise InputError("the disk is full")

    monkeypatch.setattr("openferret.cli.output.save_drawing", refused)
    result = run("chat", photo(), "--draw", drawn, typed="hello\n")
    assert "a cat" in result.stdout
    assert result.stderr == "error: the disk is full\n"


def test_kinds_of_regions_are_read_in_any_case():
    assert Pointer(60, 40).read("[Box 1,2,3,4] and [POINT 5,6]")[0] == "[0] and [1]"


@given(st.text(alphabet="[]0123456789, boxpint", max_size=60))
def test_any_line_is_read_or_refused(line):
    pointer = Pointer(60, 40)
    try:
        text, _ = pointer.read(line)
    except InputError:
        assert pointer.regions == []
        return
    _, regions = pointer.mentioned(text)
    assert len(regions) <= len(pointer.regions)


def test_a_clipped_region_is_kept_with_a_warning():
    pointer = Pointer(60, 40)
    text, warnings = pointer.read("[box 50,30,500,300] and [circle 1,2]")
    assert text == "[0] and [circle 1,2]"
    assert len(warnings) == 1
    with pytest.raises(InputError):
        pointer.read("[1]")
