"""A results file survives interruption, and nothing else is ever taken for one."""

import json
import os
from errno import ENOSPC, EPERM
from io import StringIO

import pytest

from openferret.cli.results import Results, open_results
from openferret.errors import InputError

REQUEST = {"verb": "describe", "seed": 0}


def write(path, *files, **outcome):
    with open_results(path) as results:
        for file in files:
            results.write(file, REQUEST, outcome or {"text": "ok"})


def test_what_is_written_is_found_again(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, "a.png", "ü\udcff.png")
    with open_results(path) as results:
        assert results.has("a.png", {"seed": 0, "verb": "describe"})
        assert results.has("ü\udcff.png", REQUEST)
        assert not results.has("b.png", REQUEST)
        assert not results.has("a.png", {**REQUEST, "seed": 1})


def test_errors_are_no_answers(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, "a.png", error="bad")
    with open_results(path) as results:
        assert not results.has("a.png", REQUEST)


def test_every_torn_end_is_repaired(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, "a.png", "b.png")
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        write(path, "b.png")
        assert path.read_bytes() == whole
        assert [json.loads(line)["file"] for line in path.read_text().splitlines()] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n...", b"notes\n", b'{"a": 1}\n', b"[]\n", b'"x"', b"3\n"]
)
def test_other_files_are_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "precious"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a results file"):
        write(path, "a.png")
    assert path.read_bytes() == content


def test_places_that_cannot_be_written(tmp_path, refuse, photo):
    for path in (tmp_path, tmp_path / "missing" / "out.jsonl"):
        assert "cannot be written" in refuse("describe", photo(), "--out", path)


def test_a_folder_that_is_not_there_is_named_as_the_reason(tmp_path, refuse, photo):
    assert "its folder does not exist" in refuse(
        "describe", photo(), "--out", tmp_path / "missing" / "o.jsonl"
    )


def test_a_pipe_is_no_results_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / ("x" * 300)):
        with pytest.raises(InputError), open_results(path):
            pass


def test_a_full_disk_is_one_error(tmp_path):
    class Full(StringIO):
        def flush(self):
            raise OSError(ENOSPC, "No space left on device")

    with pytest.raises(InputError, match="No space left"):
        Results(Full()).write("a.png", REQUEST, {})


def test_a_file_that_cannot_be_cut_is_closed(tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"
    write(path, "a.png")
    open_as_usual, appended = type(path).open, []

    def refuse(_):
        raise OSError(EPERM, "Operation not permitted")  # a file with the attribute "append only"

    def open_stubborn(self, mode="r", **how):
        stream = open_as_usual(self, mode, **how)
        if mode == "a+":
            stream.truncate = refuse
            appended.append(stream)
        return stream

    monkeypatch.setattr(type(path), "open", open_stubborn)
    with pytest.raises(InputError, match="not permitted"):
        write(path, "b.png")
    assert [stream.closed for stream in appended] == [True]
