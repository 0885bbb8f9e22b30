import errno

import pytest

from openferret.data.files.atomic import read_mark, whole_file, write_json
from openferret.errors import InputError


def write_half(target, trouble):
    with whole_file(target) as partial:
        partial.write_text("half")
        raise trouble


def test_a_file_is_whole_or_not_there(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    with whole_file(target) as partial:
        partial.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    with pytest.raises(ZeroDivisionError):
        write_half(target, ZeroDivisionError())
    assert target.read_text() == "new"
    assert [file.name for file in target.parent.iterdir()] == ["a.txt"]


def test_a_full_disk_is_told_apart_from_other_trouble(tmp_path):
    with pytest.raises(InputError, match="disk is full"):
        write_half(tmp_path / "a", OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(InputError, match="cannot be written: Permission"):
        write_half(tmp_path / "a", OSError(errno.EACCES, "Permission denied"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_json(tmp_path / "file" / "a.json", {})


def test_a_mark_that_is_damaged_counts_as_none(tmp_path):
    write_json(tmp_path / "a.json", {"done": 1})
    assert read_mark(tmp_path / "a.json") == {"done": 1}
    for content in ("", "{", "[1]"):
        (tmp_path / "a.json").write_text(content)
        assert read_mark(tmp_path / "a.json") is None
    assert read_mark(tmp_path / "none.json") is None
