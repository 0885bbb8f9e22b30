import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openferret.answer import parse_answer
from openferret.errors import InputError
from openferret.eval.predictions import open_predictions, read_predictions
from openferret.eval.questions import Question, Reply

ASKED = [Question(f"q{index}", "p", "ask", f"what is {index}?") for index in range(4)]


def said(text):
    return Reply(parse_answer(text, 100, 50))


def write_all(path, replies, resume=False):
    with open_predictions(path, ASKED, resume) as kept:
        for question in ASKED:
            if question.id not in kept.replies and question.id in replies:
                kept.write(question, replies[question.id])
        return dict(kept.replies)


FULL = {question.id: said(f"answer {question.id} [1, 2, 300, 400]") for question in ASKED}


def test_what_was_written_is_read(tmp_path):
    file = tmp_path / "out" / "p.jsonl"
    write_all(file, FULL)
    assert read_predictions(file, ASKED) == FULL


@given(cut=st.integers(0, 2000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_killed_at_any_byte_nothing_is_lost_and_nothing_written_twice(tmp_path, cut):
    file = tmp_path / "p.jsonl"
    file.unlink(missing_ok=True)
    write_all(file, FULL)
    whole = file.read_bytes()
    file.write_bytes(whole[: min(cut, len(whole))])
    kept = read_predictions(file, ASKED)
    assert len(kept) >= whole[:cut].count(b"\n")
    assert write_all(file, FULL, resume=True) == FULL
    assert file.read_bytes() == whole


def test_a_run_is_not_continued_unasked(tmp_path):
    file = tmp_path / "p.jsonl"
    write_all(file, FULL)
    with pytest.raises(InputError, match="give --resume"):
        write_all(file, FULL)


def test_a_failure_is_asked_again_and_its_success_counts(tmp_path):
    file = tmp_path / "p.jsonl"
    write_all(file, {**FULL, "q1": Reply(None, error="server down")})
    assert read_predictions(file, ASKED)["q1"].error == "server down"
    write_all(file, FULL, resume=True)
    assert read_predictions(file, ASKED) == FULL
    assert file.read_text().count('"q0"') == 1


def test_another_file_is_left_as_it_was(tmp_path):
    file = tmp_path / "notes.txt"
    for text in ("my notes", "my notes\n", '{"a": 1}\n', '{"question": "zz", "text": "a"}\n'):
        file.write_text(text)
        with pytest.raises(InputError):
            write_all(file, FULL, resume=True)
        assert file.read_text() == text


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("{", "line 1 is not JSON"),
        ("[1]", "entry 1 is not a prediction"),
        ('{"text": "a"}', "line 1 is not a prediction"),
        ('{"question": "other", "text": "a"}', "does not ask"),
        ('{"question": "q0", "text": 5}', "line 1: neither"),
        ('{"question": "q0", "text": "a", "width": 0}', "line 1"),
        ('{"question": "q0", "answer": {"text": "a"}}', "line 1: this is not the JSON form"),
        ('{"question": "q0", "fingerprint": "zzz", "text": "a"}', "worded in another run"),
        (
            '{"question": "q0", "text": "a"}\n{"question": "q0", "text": "b"}',
            "line 2 answers .* a second time",
        ),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_malformed_predictions_are_named(tmp_path, line, match):
    file = tmp_path / "p.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(InputError, match=match):
        read_predictions(file, ASKED)


def test_other_tools_lines_are_read(tmp_path):
    file = tmp_path / "p.jsonl"
    lines = [
        {"question_id": "q0", "text": "a dog [0, 0, 500, 500]"},
        {"image_id": "q1", "text": "", "width": 640, "height": 480},
        {"id": "q2", "answer": "x" * 1_000_000},
        {"question": "q3", "error": "timeout"},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    found = read_predictions(file, ASKED)
    assert found["q0"].raw == "a dog [0, 0, 500, 500]"
    assert found["q0"].boxes[0] == (0.0005, 0.0005, 0.5005, 0.5005)
    assert found["q1"].text == ""
    assert found["q3"].answer is None


def test_an_array_a_mark_of_byte_order_and_windows_line_ends_are_read(tmp_path):
    file = tmp_path / "p.json"
    rows = [{"question_id": "q0", "text": "a dog"}, {"question_id": "q1", "text": "caf\u00e9"}]
    forms = [json.dumps(rows), json.dumps(rows, indent=1), "\r\n".join(map(json.dumps, rows))]
    for form in forms:
        file.write_bytes(form.encode("utf-8-sig"))
        assert read_predictions(file, ASKED)["q1"].text == "caf\u00e9"
    file.write_text(json.dumps([rows[0], rows[0]]))
    with pytest.raises(InputError, match="entry 2 answers question 'q0' a second time"):
        read_predictions(file, ASKED)


def test_a_packed_file_is_told(tmp_path):
    file = tmp_path / "p.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"question_id": "q0", "text": "a dog"}'))
    with pytest.raises(InputError, match="unpack it first"):
        read_predictions(file, ASKED)


def test_other_tools_boxes_are_read_in_the_dialect_they_name(tmp_path):
    file = tmp_path / "p.jsonl"
    words = json.dumps([{"bbox_2d": [0, 0, 320, 240], "label": "a dog"}])
    row = {"id": "q0", "text": words, "dialect": "qwen2.5", "width": 640, "height": 480}
    file.write_text(json.dumps(row))
    found = read_predictions(file, ASKED)["q0"]
    assert (found.boxes, found.ferret_words) == ([(0, 0, 0.5, 0.5)], None)
    for wrong, match in (({"width": 640}, "give width and height"), ({"dialect": "x"}, "no dialect 'x'")):
        file.write_text(json.dumps({"id": "q0", "text": words, "dialect": "qwen2.5"} | wrong))
        with pytest.raises(InputError, match=match):
            read_predictions(file, ASKED)


def test_boxes_that_are_not_numbers_are_read_and_overlap_nothing(tmp_path):
    file = tmp_path / "p.jsonl"
    answer = parse_answer("a dog [0, 0, 500, 500]", 10, 10).to_dict()
    answer["mentions"][0]["boxes"][0]["normalized"] = [float("nan")] * 4
    file.write_text(json.dumps({"question": "q0", "answer": answer}) + "\n")
    assert len(read_predictions(file, ASKED)["q0"].boxes) == 1


def test_ranks_and_dialects_come_back(tmp_path, empty_answer):
    question = Question("a", "p", "ground", phrases=("a dog",), ranks=10)
    reply = Reply(
        empty_answer, "<loc_1>", ranked=(((0.0, 0.0, 0.5, 1.0), (0.1, 0.1, 0.2, 0.2)),), dialect="florence"
    )
    path = tmp_path / "p.jsonl"
    with open_predictions(path, [question], False) as kept:
        kept.write(question, reply)
    assert read_predictions(path, [question]) == {"a": reply}


@pytest.mark.parametrize(
    "ranked", ["[[[0, 0, 1]]]", "[[[0, 0, 1, 2]]]", "[[[NaN, 0, 1, 1]]]", "[7]", '"x"', "[[null]]", "5"]
)
def test_ranks_that_are_no_boxes_are_named_with_their_line(tmp_path, ranked):
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "a", "text": "a dog", "ranked": ' + ranked + "}\n")
    with pytest.raises(InputError, match=r"p\.jsonl line 1"):
        read_predictions(path, [Question("a", "p", "ground", phrases=("a dog",))])


def test_an_offer_of_ranks_is_the_same_question():
    plain = Question("a", "p", "ground", phrases=("a dog",))
    assert plain.fingerprint == Question("a", "p", "ground", phrases=("a dog",), ranks=10).fingerprint
