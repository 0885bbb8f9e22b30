"""Everything typed is checked before a model is loaded."""

import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from openferret.cli.inputs import check_references, read_mask, references
from openferret.errors import InputError
from openferret.masks import encode_rle


@pytest.mark.parametrize(
    "region",
    [
        *(["--point", text] for text in ("nan,1", "inf,1", "1", "1,2,3", "a,b", "1_0,2", "")),
        *(["--box", text] for text in ("1,2,3", "1,2,3,4,5", "1,2,3,nan", "1,2,3,x")),
        *(["--scribble", text] for text in ("", "1,2 3")),
        *(["--polygon", text] for text in ("1,2 3,4", "1,2", "1,2 3,4 5,inf")),
        *(["--mask", text] for text in ("missing.png", "missing.json", ".", "", "/dev/zero")),
    ],
    ids=" ".join,
)
def test_regions_that_are_none(refuse, photo, region):
    refuse("refer", photo(), *region)


def test_refer_needs_a_region(refuse, photo):
    assert "--box" in refuse("refer", photo())


def test_boxes_outside_and_inverted_are_used_with_a_warning(run, ferret, photo):
    result = run("refer", photo(), "--box", "-10,-10,20,900")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ")
    assert run("refer", photo(), "--box", "20,20,5,5").exit_code == 0
    assert run("refer", photo(), "--box", "5,5,5,5").exit_code == 0


@pytest.mark.parametrize("suffix", [".png", ".json"])
def test_masks_from_files(tmp_path, suffix):
    mask = np.zeros((40, 60), bool)
    mask[10:20, 30:50] = True
    path = tmp_path / f"mask{suffix}"
    if suffix == ".png":
        Image.fromarray(mask).save(path)
        assert np.array_equal(read_mask(str(path)).array, mask)
        return
    for rle in (encode_rle(mask), encode_rle(mask, compressed=False)):
        for content in (rle, {"segmentation": rle, "id": 3}):
            path.write_text(json.dumps(content))
            assert np.array_equal(read_mask(str(path)).array, mask)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"size": [40, 60]}',
        b'{"size": [40, 60], "counts": [1]}',
        b'{"size": [40, 60], "counts": [2400]}',
        b'{"size": [1e9, 1e9], "counts": "00"}',
        b'{"size": [1e999, 4], "counts": "00"}',
        b'{"size": [' + b"1" * 5000 + b', 4], "counts": "00"}',
        b'{"size": [4, 4], "counts": [0, 16]}',
    ],
    ids=range(13),
)
def test_bad_mask_files(refuse, photo, tmp_path, content):
    path = tmp_path / "mask.json"
    path.write_bytes(content)
    refuse("refer", photo(), "--mask", path)


@pytest.mark.parametrize("name", ["mask.png", "mask.json"])
def test_a_mask_from_a_pipe_is_refused_instead_of_waited_for(refuse, photo, tmp_path, name):
    os.mkfifo(tmp_path / name)
    refuse("refer", photo(), "--mask", tmp_path / name)


def test_empty_and_misfitting_masks(refuse, photo, tmp_path):
    Image.new("L", (60, 40)).save(tmp_path / "empty.png")
    Image.new("L", (61, 40), 255).save(tmp_path / "other.png")
    for name in ("empty.png", "other.png"):
        refuse("refer", photo(), "--mask", tmp_path / name)


@pytest.mark.parametrize("words", [[], [""], ["  "], ["a dog", ""]])
def test_phrases_that_are_empty(refuse, photo, words):
    refuse("ground", photo(), *words)


def test_a_second_picture_is_not_a_phrase(refuse, photo):
    assert "--images" in refuse("ground", photo("a.png"), photo("b.png"), "a dog")


def test_the_picture_comes_first(refuse, photo):
    assert "comes first" in refuse("ground", "a cup", photo())
    assert "comes first" in refuse("ask", "what is it?", photo())


def test_shares_of_the_picture_are_doubted(run, ferret, photo):
    result = run("refer", photo(), "--box", "0.1,0.2,0.8,0.9")
    assert result.exit_code == 0
    assert "pixels, not 0..1" in result.stderr


def test_with_images_named_every_word_is_a_phrase(run, ferret, photo, monkeypatch):
    monkeypatch.chdir(photo("dog.png").parent)
    assert run("ground", "--images", "dog.png", "dog.png").exit_code == 0
    assert ferret.calls[-1][1] == ["dog.png"]


def test_phrases_cannot_point(refuse, photo):
    assert "[3]" in refuse("ground", photo(), "a dog", "like [3]")


@pytest.mark.parametrize("value", ["nan", "-0.1", "1.1", "inf"])
def test_thresholds(refuse, photo, value):
    refuse("ground", photo(), "a dog", "--threshold", value)
    refuse("detect", photo(), "--threshold", value)


def test_long_phrases_are_no_file_names(run, photo):
    assert run("ground", photo(), "a dog " * 100).exit_code == 0


@pytest.mark.parametrize("question", ["what is [3]?", "[1]", f"[{'9' * 5000}]"])
def test_questions_about_regions_that_are_not_there(refuse, photo, question):
    assert "only region [0]" in refuse("ask", photo(), question, "--point", "1,2")
    assert "no regions" in refuse("ask", photo(), question)


def test_refer_asks_about_one_region_at_a_time(refuse, photo):
    assert "ask" in refuse("refer", photo(), "--point", "1,2", "--point", "3,4", "--ask", "is [0] on [1]?")


def test_questions_want_quotes(refuse, photo):
    assert "quotes" in refuse("ask", photo(), "what", "is", "this")
    refuse("ask", photo(), "")
    refuse("refer", photo(), "--point", "1,2", "--ask", " ")


@given(st.lists(st.integers(0, 20)))
def test_references_are_read_in_order(numbers):
    text = "".join(f"x[{number}] [a] [ 1 ] " for number in numbers)
    assert references(text) == numbers
    check_references(text, max(numbers, default=-1) + 1, "point")
    if numbers:
        with pytest.raises(InputError, match="mentioned"):
            check_references(text, max(numbers), "point")
