"""`openferret convert`: arguments and errors; the work itself is tested where it is done."""

import json

import pytest


def test_help_lists_both_ways(run):
    listed = run("convert", "--help")
    assert listed.exit_code == 0
    assert "to-apple" in listed.stdout


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "there is no checkpoint in"),
        ({"model_type": "ferret"}, "there are no weights in"),
    ],
)
def test_a_folder_without_a_release_is_one_line(run, tmp_path, config, said):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    done = run("convert", "apple", "--delta", str(tmp_path), "--out", str(tmp_path / "out"))
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {said}")
    assert done.stderr.count("\n") == 1


def test_a_folder_that_is_not_there_is_an_input_error(run, tmp_path):
    done = run("convert", "apple", "--delta", str(tmp_path / "no"), "--out", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
