"""One picture is answered for a person; many are answered line by line, and nothing stops the rest."""

import json

import pytest

from openferret.errors import InputError, WeightsError


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_json_of_one_picture_is_the_answer_itself(run, photo):
    (answer,) = lines(run("describe", photo(), "--json").stdout)
    assert answer["text"] == "a man a bike"
    assert answer["image"] == {"width": 60, "height": 40}
    assert answer["mentions"][0]["boxes"][0]["pixels"] == [1, 2, 30, 20]


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_bad_pictures_are_refused_before_the_model(refuse, tmp_path, content):
    path = tmp_path / "bad.jpg"
    if content is not None:
        path.write_bytes(content)
    assert "bad.jpg" in refuse("describe", path)


def test_several_pictures_are_lines_and_a_bad_one_does_not_stop_the_rest(run, ferret, photo, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    result = run("describe", photo("a.png"), tmp_path / "bad.png", tmp_path / "missing.png", photo("z.png"))
    assert result.exit_code == 3
    records = lines(result.stdout)
    assert ["error" in record for record in records] == [False, True, True, False]
    assert records[1]["file"].endswith("bad.png")
    assert records[0]["request"]["verb"] == "describe"
    assert result.stderr == "2 answered, 2 failed\n"
    assert len(ferret.loads) == 1


def test_a_folder_is_a_batch_and_each_region_has_its_line(run, photo):
    folder = photo("pictures/a.png").parent
    records = lines(run("refer", folder, "--point", "1,2", "--box", "1,2,3,4").stdout)
    assert [record["request"]["region"] for record in records] == ["point 1,2", "box 1,2,3,4"]


def test_nothing_is_loaded_if_no_picture_is_good(run, ferret, tmp_path):
    result = run("describe", tmp_path / "a.png", tmp_path / "b.png")
    assert result.exit_code == 3
    assert ferret.loads == []


def test_a_batch_goes_on_where_it_stopped(run, ferret, photo, tmp_path, monkeypatch):
    pictures = [photo(f"{name}.png") for name in "abc"]
    out = tmp_path / "out.jsonl"
    describe = type(ferret).describe

    def interrupted(self, **options):
        if len([call for call in self.calls if call[0] == "describe"]) == 2:
            raise KeyboardInterrupt
        return describe(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(ferret), "describe", interrupted)
        stopped = run("describe", *pictures, "--out", out)
    assert stopped.exit_code == 130
    assert stopped.stderr == "2 answered\n"
    assert len(lines(out.read_text())) == 2

    with out.open("a") as stream:
        stream.write('{"file": "torn')
    went_on = run("describe", *pictures, "--out", out)
    assert went_on.stderr == "2 already there, 1 answered\n"
    assert [record["file"] for record in lines(out.read_text())] == [str(picture) for picture in pictures]
    again = run("describe", *pictures, "--out", out)
    assert again.stderr == "3 already there\n"
    assert again.exit_code == 0


def test_another_question_is_not_skipped_and_failures_are_tried_again(run, photo, tmp_path):
    out = tmp_path / "out.jsonl"
    late = tmp_path / "late.png"
    assert run("describe", photo(), late, "--out", out).exit_code == 3
    photo("late.png")
    assert run("describe", photo(), late, "--out", out).stderr == "1 already there, 1 answered\n"
    assert run("describe", photo(), "--seed", "1", "--out", out).stderr == "1 answered\n"
    assert run("detect", photo(), "--out", out).stderr == "1 answered\n"


def test_missing_weights_stop_a_batch(run, ferret, photo):
    ferret.fails = WeightsError("no weights")
    result = run("describe", photo("a.png"), photo("b.png"))
    assert result.exit_code == 1
    assert result.stderr == "error: no weights\n"


def test_a_picture_the_model_refuses_is_a_line(run, ferret, photo, monkeypatch):
    def refuse(self, **options):
        raise InputError("too odd")

    monkeypatch.setattr(type(ferret), "describe", refuse)
    assert lines(run("describe", photo("a.png"), photo("b.png")).stdout)[1]["error"] == "too odd"
    assert run("describe", photo("a.png")).exit_code == 2
