"""A folder of odd pictures on the command line: each is answered, or its file and its fault are named."""

import json

import pytest

from .. import odd_pictures


@pytest.fixture
def folder(tmp_path):
    odd = tmp_path / "odd"
    odd.mkdir()
    for name, (content, *_) in (odd_pictures.usable() | odd_pictures.refused()).items():
        (odd / name).write_bytes(content)
    return odd


@pytest.mark.parametrize("words", [["refer", "--point", "0.5,0.5"], ["ground", "a dog", "--images"]])
def test_each_is_answered_or_its_fault_is_named(run, ferret, folder, words, tmp_path):
    result = run(*words, folder, "--json", "--draw", tmp_path / "drawn")
    lines = {one["file"].rpartition("/")[2]: one for one in map(json.loads, result.stdout.splitlines())}
    assert lines.keys() == odd_pictures.usable().keys() | odd_pictures.refused().keys()
    assert result.exit_code not in (0, 2)
    for name, (_, size, _) in odd_pictures.usable().items():
        assert "error" not in lines[name]
        assert lines[name]["image"] == dict(zip(("width", "height"), size, strict=True))
    for name, (_, reason) in odd_pictures.refused().items():
        assert name in lines[name]["error"]
        assert reason in lines[name]["error"]
    drawn = {file.stem for file in (tmp_path / "drawn").iterdir()}
    assert {name.rpartition(".")[0] for name in odd_pictures.usable()} <= drawn
