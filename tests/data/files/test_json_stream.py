import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openferret.data.files.json_stream import first_character, not_an_object, stream_items, write_list
from openferret.data.problems import Problems
from openferret.errors import InputError


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_items_of_a_list_and_of_a_list_in_an_object(tmp_path, mark):
    path = tmp_path / "a.json"
    path.write_text(mark + json.dumps({"a": [1, {"b": 2.5}], "c": [3]}), encoding="utf-8")
    problems = Problems(strict=True)
    assert list(stream_items(path, "a.item", problems)) == [1, {"b": 2.5}]
    assert first_character(path) == "{"
    write_list(path, [{"x": 1}, {"y": "é"}])
    assert (
        list(stream_items(path, "item", problems)) == json.loads(path.read_text()) == [{"x": 1}, {"y": "é"}]
    )
    write_list(path, [])
    assert json.loads(path.read_text()) == []


@pytest.mark.parametrize("rest", ["", "{", "]]", ", \x00"])
def test_what_is_sound_is_given_and_the_damage_counted(tmp_path, rest):
    path = tmp_path / "a.json"
    path.write_bytes(b"[1, 2" + rest.encode("latin1"))
    problems = Problems()
    assert list(stream_items(path, "item", problems))[:1] == [1]
    assert problems.counts == {"damaged file": 1}
    assert "a.json" in str(problems.examples[0])
    with pytest.raises(InputError, match=r"a\.json"):
        list(stream_items(path, "item", Problems(strict=True)))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_json_as_windows_writes_it(tmp_path, encoding):
    path = tmp_path / "a.json"
    path.write_bytes('{"a": ["é", 2]}'.encode(encoding))
    assert list(stream_items(path, "a.item", Problems(strict=True))) == ["é", 2]
    assert first_character(path) == "{"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"b": 1, "a": [1, 2], "c": {}}', ""),
        ('{"a": [1, 2], "b": [[3]], "a": [9]}', "the key 'a' stands twice"),
        ('{"b": 1, "a": [1, 2], "b": 2}', "the key 'b' stands twice"),
        ('{"a": [1, 2]}{"a": [3]}', "the object ends at character 13, but not the file"),
        ('{"a": [1, 2], "b": [3', "the file ends"),
        ('{"a": [1, 2]', "the file ends"),
    ],
)
def test_what_stands_behind_the_list_and_is_not_read_is_told(tmp_path, text, told):
    path = tmp_path / "a.json"
    path.write_text(text)
    problems = Problems()
    assert list(stream_items(path, "a.item", problems, whole=True)) == [1, 2]
    assert told in " ".join(map(str, problems.examples))
    assert bool(told) == bool(problems.counts)


@pytest.mark.parametrize(
    ("content", "told"), [(b"", "empty"), (b" \n", "empty"), (b"\x1f\x8b", "begins with"), (b'{"a": 1}', "")]
)
def test_why_a_file_is_no_object(tmp_path, content, told):
    (tmp_path / "a.json").write_bytes(content)
    reason = not_an_object(tmp_path / "a.json")
    assert told in reason
    assert bool(told) == bool(reason)


def test_bytes_that_are_no_text_cost_no_item(tmp_path):
    (tmp_path / "a.json").write_bytes(b'["caf\xe9", 2]')
    problems = Problems()
    assert list(stream_items(tmp_path / "a.json", "item", problems)) == ["caf\ufffd", 2]
    assert problems.counts == {"not Unicode": 1}


def test_deep_nesting_ends_in_a_problem_or_an_item(tmp_path):
    path = tmp_path / "a.json"
    problems = Problems()
    path.write_text("[1," + "[" * 2_000_000)
    assert list(stream_items(path, "item", problems)) == [1]
    path.write_text('{"a": ' + '{"b":' * 200_000)
    assert list(stream_items(path, "c.item", problems)) == []
    assert problems.counts == {"damaged file": 2}


def test_items_across_the_edges_of_what_is_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("openferret.data.files.json_stream._STEP", 3)
    path = tmp_path / "a.json"
    items = [12345678, "é" * 50, {"a": [1, [2, -3.5e-7]], "b": '\\ " ]'}, [], True, None, 7]
    for indent in (None, 2):
        path.write_text(json.dumps({"x": {"c": 1}, "y": items, "z": items}, indent=indent), encoding="utf-8")
        assert list(stream_items(path, "z.item", Problems(strict=True))) == items
        path.write_text(json.dumps(items, indent=indent, ensure_ascii=False), encoding="utf-8")
        assert list(stream_items(path, "item", Problems(strict=True))) == items


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("lists")


@settings(deadline=None, max_examples=50)
@given(
    items=st.lists(
        st.recursive(st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3))
    ),
    step=st.integers(1, 9),
)
def test_any_list_is_read_as_json_reads_it(place, items, step):
    path = place / "a.json"
    path.write_text(json.dumps(items), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openferret.data.files.json_stream._STEP", step)
        assert list(stream_items(path, "item", Problems(strict=True))) == items


def test_an_item_that_is_too_large_is_damage(tmp_path, monkeypatch):
    monkeypatch.setattr("openferret.data.files.json_stream.LARGEST_ITEM", 100)
    monkeypatch.setattr("openferret.data.files.json_stream._STEP", 10)
    (tmp_path / "a.json").write_text(json.dumps([1, "x" * 1000, 2]))
    problems = Problems()
    assert list(stream_items(tmp_path / "a.json", "item", problems)) == [1]
    assert "usual size" in str(problems.examples[0])


def test_a_number_of_too_many_digits_costs_no_other_item(tmp_path):
    (tmp_path / "a.json").write_text("[1, " + "9" * 5000 + ", 2]")
    problems = Problems()
    assert list(stream_items(tmp_path / "a.json", "item", problems)) == [1, math.inf, 2]
    assert problems.counts == {}


def test_half_characters_are_replaced_and_told_of(tmp_path):
    (tmp_path / "a.json").write_text(r'["\ud83d\ude00 \ud83d", {"\ud83d": ["\udc00"]}, "\u00e9"]')
    problems = Problems()
    assert list(stream_items(tmp_path / "a.json", "item", problems)) == [
        "😀 \ufffd",
        {"\ufffd": ["\ufffd"]},
        "é",
    ]
    assert problems.counts == {"not Unicode": 1}


def test_files_that_cannot_be_read(tmp_path):
    for use in (lambda path: list(stream_items(path, "item", Problems())), first_character):
        with pytest.raises(InputError, match="cannot be read"):
            use(tmp_path / "missing.json")
