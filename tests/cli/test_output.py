"""Answers are readable, harmless to the terminal, and drawn where that was asked for."""

import os
from pathlib import Path

import pytest
from PIL import Image

from openferret.answer import Answer
from openferret.cli.output import plan_drawings, print_answers
from openferret.cli.terminal import printable
from openferret.errors import InputError


def test_one_picture_is_drawn_to_a_file(run, photo, tmp_path):
    out = tmp_path / "out.png"
    assert run("refer", photo(), "--box", "1,2,30,20", "--draw", out).exit_code == 0
    with Image.open(out) as drawn:
        assert drawn.width == 640


def test_several_pictures_are_drawn_to_a_folder(run, photo, tmp_path):
    pictures = [photo("a.png"), photo("b.png"), photo("more/a.png")]
    assert run("describe", *pictures, "--draw", tmp_path / "drawn").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["a-2.png", "a.png", "b.png"]


@pytest.mark.parametrize("name", ["out.txt", "out", "missing/out.png"])
def test_places_that_cannot_be_drawn_to(refuse, photo, tmp_path, name):
    assert "--draw" in refuse("describe", photo(), "--draw", tmp_path / name)


def test_drawings_never_overwrite_pictures(refuse, photo):
    one, two = photo("a.png"), photo("b.png")
    assert "overwrite" in refuse("describe", one, "--draw", one)
    assert "overwrite" in refuse("describe", one, two, "--draw", one.parent)
    assert "folder" in refuse("describe", one, two, "--draw", "out.png")


def test_numbered_names_do_not_collide():
    pictures = [Path(name) for name in ("a.png", "x/A.jpg", "a-2.png", "y/a.gif")]
    names = [target.name for target in plan_drawings(Path("drawn"), pictures, batch=True) if target]
    assert len({name.casefold() for name in names}) == 4


def test_no_drawing_is_planned_where_none_is_wanted():
    assert plan_drawings(None, [Path("a.png")], batch=False) == [None]
    with pytest.raises(InputError):
        plan_drawings(Path("drawn"), [Path("a.png")], batch=False)


def test_control_characters_do_not_reach_the_terminal(capsys):
    print_answers([Answer("\x1b[31mred\x07\x9b end [bold]x[/bold]", (), 4, 3)])
    assert (
        capsys.readouterr().out.replace("\N{REPLACEMENT CHARACTER}", "?") == "?[31mred?? end [bold]x[/bold]\n"
    )
    assert len(printable("\x1b\tä\n")) == 4


def test_long_answers_are_not_broken(capsys):
    print_answers([Answer("word " * 60, (), 4, 3)])
    assert capsys.readouterr().out.count("\n") == 1


def test_colours_only_on_a_terminal(run, photo, monkeypatch):
    assert "\x1b" not in run("describe", photo()).stdout
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;31ma man" in run("describe", photo()).stdout


@pytest.mark.parametrize("place", ["x" * 300 + ".png", "notes.txt/drawn.png", "fifo.png"])
def test_drawings_that_could_not_be_written(refuse, photo, tmp_path, place):
    (tmp_path / "notes.txt").touch()
    os.mkfifo(tmp_path / "fifo.png")
    assert "--draw" in refuse("describe", photo(), "--draw", tmp_path / place)


def test_folders_that_cannot_be_drawn_to(refuse, photo, tmp_path):
    (tmp_path / "notes.txt").touch()
    refuse("describe", photo("a.png"), photo("b.png"), "--draw", tmp_path / "notes.txt" / "drawn")
