import tarfile

import pytest

from openferret.data.storage.pictures import PictureFolder, PictureShards, write_shards
from openferret.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for number in range(5):
        path = tmp_path / "pictures" / "train" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * 3000)
    return PictureFolder(tmp_path / "pictures")


NAMES = [f"train/{number}.jpg" for number in (3, 0, 1, 2, 4, 0)]


def test_shards_are_the_same_bytes_and_give_the_pictures_back(tmp_path, folder):
    first = write_shards(tmp_path / "one", NAMES, folder, shard_bytes=7000)
    second = write_shards(tmp_path / "two", NAMES, folder, shard_bytes=7000)
    assert [path.name for path in first] == [f"pictures-00000{number}.tar" for number in range(3)]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    shards = PictureShards(tmp_path / "one")
    assert len(shards) == 5
    assert all(shards.read(name) == folder.read(name) for name in NAMES)


def test_a_picture_may_have_as_long_a_name_as_a_file(tmp_path, folder):
    name = f"train/{'screenshot' * 24}.jpg"
    (tmp_path / "pictures" / name).write_bytes(b"long")
    for place in ("one", "two"):
        write_shards(tmp_path / place, [NAMES[0], name, NAMES[1]], folder)
    shards = PictureShards(tmp_path / "one")
    assert [shards.read(one)[:4] for one in (NAMES[0], name, NAMES[1])] == [b"\x03" * 4, b"long", b"\0" * 4]
    file = "pictures-000000.tar"
    assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, folder):
    (tmp_path / "secret.txt").write_text("mine")
    (tmp_path / "pictures" / "link.jpg").symlink_to(tmp_path / "secret.txt")
    for name in ("../secret.txt", str(tmp_path / "secret.txt"), "link.jpg", "train/9.jpg", "a\0b", "train"):
        with pytest.raises(InputError, match="the picture"):
            folder.read(name)
    with pytest.raises(InputError, match="not a folder"):
        PictureFolder(tmp_path / "nothing")


def test_a_missing_picture_leaves_no_half_shard(tmp_path, folder):
    with pytest.raises(InputError, match=r"9\.jpg"):
        write_shards(tmp_path / "out", ["train/0.jpg", "train/9.jpg"], folder)
    assert list((tmp_path / "out").iterdir()) == []


def test_shards_that_cannot_be_used(tmp_path, folder):
    with pytest.raises(InputError, match=r"no \.tar"):
        PictureShards(tmp_path)
    (path,) = write_shards(tmp_path / "cut", NAMES, folder)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(InputError, match=r"cut off|whole tar"):
        PictureShards(tmp_path / "cut").read("train/0.jpg")
    (path.parent / "b.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(InputError, match="whole tar"):
        PictureShards(tmp_path / "cut")
    write_shards(tmp_path / "twice", ["train/0.jpg"], folder)
    (tmp_path / "twice" / "b.tar").write_bytes((tmp_path / "twice" / "pictures-000000.tar").read_bytes())
    with pytest.raises(InputError, match="twice"):
        PictureShards(tmp_path / "twice")


def test_links_in_shards_are_no_pictures(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as opened:
        member = tarfile.TarInfo("a.jpg")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
        opened.addfile(member)
    with pytest.raises(InputError, match="in no shard"):
        PictureShards(tmp_path).read("a.jpg")
