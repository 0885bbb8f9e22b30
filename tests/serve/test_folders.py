import os

import pytest

from openferret.errors import InputError
from openferret.serve.folders import AllowedFolders


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "inside").mkdir()
    for name in ("in/deep/a.png", "inside/b.png", "c.png"):
        (tmp_path / name).touch()
    return tmp_path


def test_files_are_found_by_full_or_relative_names(pictures):
    allowed = AllowedFolders.of([pictures / "inside", pictures / "in"])
    assert allowed.find("deep/a.png") == pictures / "in" / "deep" / "a.png"
    assert allowed.find(str(pictures / "in" / "deep" / ".." / "deep" / "a.png")).name == "a.png"


@pytest.mark.parametrize(
    "name", ["../c.png", "../inside/b.png", "deep", "", ".", "loop", "out", "deep/a.png/x", "\0"]
)
def test_nothing_else_is(pictures, name):
    (pictures / "in" / "out").symlink_to(pictures / "c.png")
    (pictures / "in" / "loop").symlink_to(pictures / "in" / "loop")
    with pytest.raises(InputError, match="there is no file") as told:
        AllowedFolders.of([pictures / "in"]).find(name)
    assert str(pictures) not in str(told.value)


def test_a_link_to_an_allowed_file_and_a_linked_folder_are_followed(pictures):
    (pictures / "in" / "link.png").symlink_to(pictures / "in" / "deep" / "a.png")
    (pictures / "alias").symlink_to(pictures / "in")
    assert AllowedFolders.of([pictures / "alias"]).find("link.png").name == "a.png"


def test_pipes_are_no_pictures(pictures):
    os.mkfifo(pictures / "in" / "pipe")
    with pytest.raises(InputError):
        AllowedFolders.of([pictures / "in"]).find("pipe")


@pytest.mark.parametrize("folder", ["nowhere", "c.png", ""])
def test_a_folder_that_is_none_is_refused(pictures, folder):
    with pytest.raises(InputError, match="is not a folder"):
        AllowedFolders.of([pictures / folder if folder else ""])
