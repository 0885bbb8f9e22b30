"""Errors are one line and an exit status; options keep the order they were typed in."""

from errno import ENOSPC

import pytest

from openferret.cli import output
from openferret.errors import InputError, WeightsError


@pytest.mark.parametrize(
    ("error", "status"),
    [(InputError("two\nlines"), 2), (WeightsError("two\nlines"), 1), (KeyboardInterrupt(), 130)],
)
def test_failures_have_a_status_and_at_most_one_line(run, ferret, photo, error, status):
    ferret.fails = error
    result = run("describe", photo())
    assert result.exit_code == status
    assert result.stderr in ("error: two lines\n", "")


def test_answers_that_do_not_fit_are_one_error(run, ferret, photo, monkeypatch):
    def fail(*args):
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(output, "print_answers", fail)  # as stdout does, if it is a file on a full disk
    result = run("describe", photo())
    assert result.exit_code == 2
    assert result.stderr == "error: what was to be written does not fit: No space left on device\n"


def test_a_bug_is_not_hidden(run, ferret, photo):
    ferret.fails = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        run("describe", photo())


@pytest.mark.parametrize(
    "words",
    [
        ["fly"],
        ["--nonsense"],
        ["describe"],
        ["describe", "a.png", "--seed", "x"],
        ["describe", "a.png", "--seed", "-1"],
        ["describe", "a.png", "--max-new-tokens", "0"],
        ["refer", "a.png", "--box"],
        ["refer", "a.png", "--circle", "1,2,3"],
        ["ground", "a.png", "dog", "--threshold", "much"],
        ["model"],
    ],
)
def test_wrong_usage_is_one_line(refuse, words):
    refuse(*words)


def test_regions_keep_their_order_across_kinds(run, ferret, photo):
    run(
        *("ask", photo(), "[0] [1] [2] [3]", "--box", "1,2,3,4"),
        *("--point=5,6", "--json", "--box", "7,8,9,10", "--scribble", "1,1 2,2"),
    )
    _, _, regions, _ = ferret.calls[-1]
    assert [type(region).__name__ for region in regions] == ["Box", "Point", "Box", "Scribble"]
    assert [regions[0].x1, regions[2].x1] == [1, 7]
