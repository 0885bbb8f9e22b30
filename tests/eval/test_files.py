import json
import pickle
import re
import time

import pytest

from openferret.errors import InputError
from openferret.eval.files import check_xml, read_json, read_json_lines, read_pickle, read_records


def refuse(read, path, match):
    with pytest.raises(InputError, match=match) as failure:
        list(read(path))
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"{", r"a\.json.* is not JSON"),
        (b'{\n"a": 1,\n}', r"a\.json line 3 is not JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b"\xff\xfe", "not UTF-8"),
        (b"1" * 10_000, "not JSON that can be read"),
        (b"", "is not JSON"),
    ],
)
def test_malformed_json_is_named(tmp_path, content, match):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    refuse(read_json, file, match)


def test_missing_files_and_folders_are_named(tmp_path):
    refuse(read_json, tmp_path / "no.json", r"no\.json cannot be read")
    refuse(read_json, tmp_path, "cannot be read")


def test_lines_are_numbered(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": 1}\n\n[1]\n')
    refuse(read_json_lines, file, r"a\.jsonl line 3 is not a JSON object")
    file.write_text('{"a": 1}\n{"a": \n')
    refuse(read_json_lines, file, r"a\.jsonl line 2 is not JSON")


def test_records_are_an_array_or_lines(tmp_path):
    file = tmp_path / "a.json"
    for text in ('[{"a": 1}, {"a": 2}]', '{"a": 1}\n{"a": 2}\n'):
        file.write_text(text)
        assert read_records(file) == [{"a": 1}, {"a": 2}]
    file.write_text("[1]")
    refuse(read_records, file, "not a list of JSON objects")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>\n<a>&x;</a>',
            "line 1 declares a document type",
        ),
        (
            '<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY x "aa"><!ENTITY y "&x;&x;">]><a>&y;</a>',
            "line 2 declares a document type",
        ),
        ("<a>\n<b></a>", "line 2 is not XML"),
        ("", "is not XML"),
        ("<a>&x;</a>", "is not XML"),
    ],
)
def test_xml_is_refused(tmp_path, content, match):
    file = tmp_path / "a.xml"
    file.write_text(content)
    refuse(check_xml, file, match)


class Evil:
    def __reduce__(self):
        return (open, ("openferret-was-here", "w"))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (pickle.dumps(Evil()), "asks for io.open; nothing of it was run"),
        (pickle.dumps(re.compile("a")), "asks for re._compile"),
        (b"cos\nsystem\n(S'echo'\ntR.", "asks for os.system"),
        (b"c__builtin__\neval\n(S'1'\ntR.", r"asks for __builtin__\.eval"),
        (b"P1\n.", "outside the file"),
        (b"", "damaged"),
        (b"garbage", "pickle"),
        (b"\x80\x09.", "pickle|damaged"),
        (pickle.dumps({"a": [1]})[:-3], "damaged|pickle"),
    ],
)
def test_a_pickle_that_wants_more_than_data_is_refused_and_not_run(tmp_path, content, match, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "refs.p"
    file.write_bytes(content)
    refuse(read_pickle, file, match)
    assert not (tmp_path / "openferret-was-here").exists()


@pytest.mark.parametrize("protocol", range(5))
def test_plain_data_is_read(tmp_path, protocol):
    content = [{"ref_id": 1, "split": "val", "sentences": [{"sent": "a dog", "tokens": ["a", "dog"]}]}]
    file = tmp_path / "refs.p"
    file.write_bytes(pickle.dumps(content, protocol))
    assert read_pickle(file) == content


def test_a_pickle_of_python_2_is_read(tmp_path):
    file = tmp_path / "refs.p"
    file.write_bytes(b"(lp0\n(dp1\nS'split'\np2\nS'val'\np3\nsV\\u00e9\np4\nI1\nsa.")
    assert read_pickle(file) == [{"split": "val", "é": 1}]


def test_large_json_lines_are_read_in_linear_time(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text((json.dumps({"text": "x" * 100}) + "\n") * 20_000)
    started = time.process_time()
    assert sum(1 for _ in read_json_lines(file)) == 20_000
    assert time.process_time() - started < 3
