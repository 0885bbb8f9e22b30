import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openferret.errors import InputError
from openferret.labelling.sources import TarPicture, find_sources, key_of, open_source, source_names


def png(shade=90):
    held = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), shade, np.uint8)).save(held, "PNG")
    return held.getvalue()


@pytest.fixture
def archive(tmp_path):
    def write(files, name="photos.tar", mode="w"):
        path = tmp_path / name
        with tarfile.open(path, mode) as opened:
            for member, content in files.items():
                entry = tarfile.TarInfo(member)
                if isinstance(content, str):
                    entry.type, entry.linkname, content = tarfile.SYMTYPE, content, b""
                entry.size = len(content)
                opened.addfile(entry, io.BytesIO(content))
        return path

    return write


def test_pictures_are_named_below_the_folder_they_share(tmp_path):
    pictures = [tmp_path / "x" / ".." / "train" / "a.jpg", tmp_path / "train" / "deep" / "b.jpg"]
    assert list(source_names(pictures).values()) == ["a.jpg", "deep/b.jpg"]


def test_an_archive_is_read_in_place_like_a_folder(archive):
    path = archive({"b/2.png": png(2), "a/1.png": png(1), "a/.hidden.png": png(), "notes.txt": b"no"})
    first, second = find_sources([path])
    assert [first.name, second.name] == ["a/1.png", "b/2.png"]
    assert [open_source(one).getpixel((0, 0))[0] for one in (first, second)] == [1, 2]
    assert list(source_names([first, second]).values()) == ["a/1.png", "b/2.png"]
    assert key_of(first) == f"{path}!/a/1.png"


def test_folders_and_archives_are_labelled_together(archive, tmp_path):
    path = archive({"1.png": png()})
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "1.png").write_bytes(png())
    sources = find_sources([path, tmp_path / "more", path])
    assert sorted(source_names(sources).values()) == ["more/1.png", "photos/1.png"]


@pytest.mark.parametrize("name", ["/etc/1.png", "../1.png", "a/../../1.png", "a\\1.png", "a\n1.png"])
def test_names_that_lead_out_are_refused(archive, name):
    with pytest.raises(InputError, match="leads out"):
        find_sources([archive({name: png()})])


def test_links_are_not_followed(archive):
    with pytest.raises(InputError, match="holds no pictures"):
        find_sources([archive({"1.png": "/etc/passwd"})])


def test_a_compressed_archive_is_said_to_be(archive):
    with pytest.raises(InputError, match="unpack"):
        find_sources([archive({"1.png": png()}, "photos.tar.gz", "w:gz")])


def test_what_is_damaged_or_gone_is_said(archive, tmp_path):
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"x" * 5000)
    with pytest.raises(InputError):
        find_sources([broken])
    with pytest.raises(InputError):
        find_sources([tmp_path / "none.tar"])
    (one,) = find_sources([archive({"1.png": b"no picture"})])
    with pytest.raises(InputError):
        open_source(one)
    with pytest.raises(InputError, match="cannot be read"):
        open_source(TarPicture(Path("gone.tar"), "1.png", 0, 1))
