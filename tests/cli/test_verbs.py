"""Each verb asks the predictor what was typed."""

import pytest

from openferret.regions import Box, Point, Polygon, Scribble


def test_refer_asks_about_each_region(run, ferret, photo):
    result = run("refer", photo(), "--point", "1,2", "--box", "1,2,30,20", "--ask", "what is it?")
    assert [call[:3] for call in ferret.calls[1:]] == [
        ("refer", Point(1, 2), "what is it?"),
        ("refer", Box(1, 2, 30, 20), "what is it?"),
    ]
    assert "[0] point 1,2" in result.stdout
    assert "a box" in result.stdout


@pytest.mark.parametrize(
    ("option", "text", "region"),
    [
        ("--scribble", "1,2 3,4 5,6", Scribble([(1, 2), (3, 4), (5, 6)])),
        ("--polygon", "1,2 30,4 5,36", Polygon([(1, 2), (30, 4), (5, 36)])),
        ("--point", "1.5, 2", Point(1.5, 2)),
    ],
)
def test_kinds_of_regions(run, ferret, photo, option, text, region):
    assert run("refer", photo(), option, text).exit_code == 0
    assert ferret.calls[-1][1:3] == (region, None)


def test_ground(run, ferret, photo):
    result = run("ground", photo(), "a dog", "a unicorn", "--merge", "--threshold", "0.3")
    assert ferret.calls[-1] == ("ground", ["a dog", "a unicorn"], {"merge": True, "threshold": 0.3})
    assert "a dog      [1, 2, 30, 20] px  0.75" in result.stdout
    assert "a unicorn  not in the picture" in result.stdout


def test_ground_on_several_pictures(run, ferret, photo):
    result = run("ground", "--images", photo("a.png"), "--images", photo("b.png"), "a dog")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2
    assert [call[1] for call in ferret.calls if call[0] == "ground"] == [["a dog"], ["a dog"]]


def test_describe_and_detect(run, ferret, photo):
    assert "a man a bike" in run("describe", photo()).stdout
    run("describe", photo(), "--drafts", "9")
    assert [call[1] for call in ferret.calls if call[0] == "describe"] == [{}, {"drafts": 9}]
    assert run("describe", photo(), "--drafts", "33").exit_code == 2
    run("detect", photo(), "--threshold", "0")
    assert ferret.calls[-1] == ("detect", {"threshold": 0.0})


def test_ask(run, ferret, photo):
    result = run("ask", photo(), "is [0] red?", "--point", "1,2", "--box", "1,2,3,4")
    assert ferret.calls[-1] == ("ask", "is [0] red?", [Point(1, 2), Box(1, 2, 3, 4)], {})
    assert "does not mention region [1]" in result.stderr
