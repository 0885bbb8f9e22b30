"""Files of strangers given to a build: named, counted, skipped or refused; nothing is unpacked, fetched, lost."""

import errno
import io
import json
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from openferret.data.building.pipeline import build
from openferret.data.building.recipe import load_recipe
from openferret.data.inspection.checking import find_problems
from openferret.data.loading.dataset import Dataset
from openferret.errors import InputError

from .. import small_set
from ..small_set import boxes_of, problems_of, recipe_of

DOCTYPES = {
    "billion laughs": '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {one} "{f"&{other};" * 10}">' for one, other in zip("bcdefgh", "abcdefg", strict=True)
    )
    + "]>",
    "external entity": '<!DOCTYPE a [<!ENTITY h SYSTEM "file:///etc/hostname">]>',
    "external definition": '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">',
    "parameter entity": '<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/hostname"> %p;]>',
}
VOC = (
    "<annotation><filename>{name}.jpg</filename><size><width>64</width><height>48</height></size><object>"
    "<name>dog</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>22</xmax><ymax>33</ymax></bndbox></object></annotation>"
)
CVAT = (
    '<annotations><image id="1" name="000000000001.jpg" width="64" height="48">'
    '<box label="dog" xtl="2" ytl="3" xbr="22" ybr="33"/></image></annotations>'
)


def voc(root, texts):
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("".join(f"{name}\n" for name in texts))
    for name, text in texts.items():
        (root / "Annotations" / f"{name}.xml").write_text(text)
        small_set.scene(int(name)).save(root / f"{name}.jpg")
    return {"kind": "pascal_voc", "root": str(root), "options": {"split": "train"}}


@pytest.mark.parametrize("doctype", DOCTYPES)
def test_xml_with_a_document_type_costs_its_picture(tmp_path, doctype):
    good = VOC.format(name=2)
    bad = DOCTYPES[doctype] + VOC.format(name=1).replace("dog", "&h;")
    built = build(recipe_of(tmp_path, voc(tmp_path / "voc", {"1": bad, "2": good})), tmp_path / "out")
    assert built["pictures"] == 1
    (problem,) = problems_of(tmp_path / "out")
    assert "1.xml" in problem["place"] + problem["message"]
    assert "document type" in problem["message"]
    with pytest.raises(InputError, match="document type"):
        build(
            recipe_of(tmp_path, voc(tmp_path / "b", {"1": bad}), bad_records="refuse"), tmp_path / "refused"
        )


@pytest.mark.parametrize("doctype", DOCTYPES)
def test_xml_of_one_file_with_a_document_type_is_refused(tmp_path, doctype):
    (tmp_path / "annotations.xml").write_text(DOCTYPES[doctype] + CVAT.replace("dog", "&h;"))
    source = {"kind": "cvat", "root": str(tmp_path / "annotations.xml"), "pictures": str(tmp_path)}
    with pytest.raises(InputError, match="document type"):
        build(recipe_of(tmp_path, source, check_pictures="none"), tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("doctype", DOCTYPES)
def test_flickr30k_xml_with_a_document_type_costs_its_picture(tmp_path, doctype):
    root = tmp_path / "flickr"
    text = VOC.replace("<name>dog", "<name>7").format(name="1")
    for folder in ("Annotations", "Sentences"):
        (root / folder).mkdir(parents=True)
    for name, content in {"1": DOCTYPES[doctype] + text.replace(">7<", ">&h;<"), "2": text}.items():
        (root / "Annotations" / f"{name}.xml").write_text(content)
        (root / "Sentences" / f"{name}.txt").write_text("[/EN#7/animals A dog] runs .\n")
        small_set.scene(int(name)).save(root / f"{name}.jpg")
    (root / "train.txt").write_text("1\n2\n")
    source = {"kind": "flickr30k_entities", "root": str(root), "options": {"split": "train"}}
    built = build(recipe_of(tmp_path, source), tmp_path / "out")
    assert built["pictures"] == 1
    (problem,) = problems_of(tmp_path / "out")
    assert "document type" in problem["message"]


def hostile_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../escaped.txt", "out")
        archive.writestr("boxes.json", "{}")
    return path


def hostile_tar(path):
    """Names that lead out, links out and to each other, a device; one sound picture."""
    buffer = io.BytesIO()
    small_set.scene(1).save(buffer, "JPEG")
    with tarfile.open(path, "w") as archive:
        for name in ("../escaped.jpg", "/escaped.jpg", "mine/000000000001.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(buffer.getvalue())
            archive.addfile(member, io.BytesIO(buffer.getvalue()))
        for name, kind, target in (
            ("link.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("hard.jpg", tarfile.LNKTYPE, "../../etc/passwd"),
            ("loop.jpg", tarfile.SYMTYPE, "loop.jpg"),
            ("device.jpg", tarfile.CHRTYPE, ""),
            ("pipe.jpg", tarfile.FIFOTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return path


@pytest.mark.parametrize("make", [hostile_zip, hostile_tar])
@pytest.mark.parametrize("key", ["root", "pictures"])
def test_archives_are_not_unpacked(tmp_path, make, key):
    archive = make(tmp_path / ("a.zip" if make is hostile_zip else "a.tar"))
    small_set.write_source(tmp_path / "source", 2)
    source = small_set.recipe_content(tmp_path / "source")["sources"]["mine"] | {key: str(archive)}
    before = set(Path(tmp_path).rglob("*"))
    with pytest.raises(InputError):
        build(recipe_of(tmp_path, source), tmp_path / "out")
    after = {path for path in Path(tmp_path).rglob("*") if tmp_path / "out" not in (path, *path.parents)}
    assert after - before <= {tmp_path / "recipe.yaml"}


def test_shards_of_strangers_give_only_their_own_pictures(tmp_path):
    build(boxes_of(tmp_path, pictures="tar"), tmp_path / "out")
    opened = Dataset.open(tmp_path / "out")
    picture = next(opened.samples()).picture
    hostile_tar(tmp_path / "out" / "pictures-00000.tar")
    again = Dataset.open(tmp_path / "out")
    for name in (
        "link.jpg",
        "hard.jpg",
        "loop.jpg",
        "device.jpg",
        "pipe.jpg",
        "../../etc/passwd",
        "/etc/passwd",
    ):
        with pytest.raises(InputError):
            again.load_picture(type(picture)(name, 64, 48, "coco_json", "1"))
    kinds = {problem.kind for problem in find_problems(again, "open")}
    assert kinds <= {"missing picture", "damaged picture"}
    assert (
        len({problem.place for problem in find_problems(again, "open")}) == 5
    )  # of six pictures one is there


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "/etc/hostname", "link.jpg", "folder.jpg", "pipe.jpg", "a\x00b.jpg"]
)
def test_pictures_outside_their_folder_are_not_read(tmp_path, name):
    recipe = boxes_of(tmp_path)
    pictures = tmp_path / "source/pictures"
    small_set.scene(99).save(tmp_path / "source/secret.jpg")
    (pictures / "link.jpg").symlink_to(tmp_path / "source/secret.jpg")
    (pictures / "folder.jpg").mkdir()
    os.mkfifo(pictures / "pipe.jpg")
    file = tmp_path / "source/boxes.json"
    content = json.loads(file.read_text())
    content["images"][0]["file_name"] = name
    file.write_text(json.dumps(content))
    built = build(recipe, tmp_path / "out")
    assert built["pictures"] == 5
    assert built["problems"]["mine"] == {"missing picture": 1}


def bomb_png(side):
    """A PNG whose header says side x side and whose data is a few bytes."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def damaged_pictures():
    good = io.BytesIO()
    small_set.scene(1).save(good, "JPEG")
    other, animated = io.BytesIO(), io.BytesIO()
    small_set.scene(1).resize((128, 96)).save(other, "JPEG")
    Image.new("RGB", (64, 48)).save(animated, "GIF")
    return {
        "empty": b"",
        "text": b"not a picture",
        "cut": good.getvalue()[: len(good.getvalue()) // 2],
        "bomb": bomb_png(60_000),
        "enormous": bomb_png(2**31 - 1),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"/>',
        "of another size": other.getvalue(),
    }


@pytest.mark.parametrize("kind", damaged_pictures())
def test_damaged_and_enormous_pictures_are_left_out(tmp_path, kind):
    recipe = boxes_of(tmp_path)
    (tmp_path / "source/pictures/000000000002.jpg").write_bytes(damaged_pictures()[kind])
    tracemalloc.start()
    built = build(recipe, tmp_path / "out")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 200 << 20
    assert built["pictures"] == 5
    assert sum(built["problems"]["mine"].values()) == 1
    assert "000000000002.jpg" in problems_of(tmp_path / "out")[0]["place"]


BOXES = {
    "outside": [500, 5, 10, 10],
    "inverted": [30, 5, -10, 10],
    "flat": [5, 5, 0, 10],
    "not a number": [float("nan"), 5, 10, 10],
    "endless": [5, 5, float("inf"), 10],
    "enormous": [-1e300, -1e300, 1e308, 1e308],
    "three numbers": [1, 2, 3],
    "words": ["a", "b", "c", "d"],
    "nothing": None,
}


@pytest.mark.parametrize("kind", BOXES)
def test_boxes_that_are_none_cost_a_box(tmp_path, kind):
    recipe = boxes_of(tmp_path)
    whole = build(recipe, tmp_path / "whole")
    file = tmp_path / "source/boxes.json"
    content = json.loads(file.read_text())
    content["annotations"][4]["bbox"] = BOXES[kind]
    file.write_text(json.dumps(content))
    built = build(recipe, tmp_path / "out")
    assert sum(built["problems"]["mine"].values()) == 1
    assert "5" in problems_of(tmp_path / "out")[0]["place"]
    assert built["pictures"] == whole["pictures"]
    assert all(box.x2 > box.x1 for one in Dataset.open(tmp_path / "out").samples() for box in one.regions)


def test_ids_that_stand_twice_are_named_and_one_of_each_is_kept(tmp_path):
    recipe = boxes_of(tmp_path)
    whole = build(recipe, tmp_path / "whole")
    file = tmp_path / "source/boxes.json"
    content = json.loads(file.read_text())
    content["images"] += content["images"][:2]
    content["annotations"] += content["annotations"][:3]
    file.write_text(json.dumps(content))
    built = build(recipe, tmp_path / "out")
    assert sum(built["problems"]["mine"].values()) == 5
    ids = [one.id for one in Dataset.open(tmp_path / "out").samples()]
    assert len(ids) == len(set(ids)) == whole["samples"]


@pytest.mark.parametrize("cut", [40, 400, 900])
def test_json_that_is_cut_off_gives_what_is_whole(tmp_path, cut):
    recipe = boxes_of(tmp_path)
    file = tmp_path / "source/boxes.json"
    file.write_text(file.read_text()[:-cut])
    built = build(recipe, tmp_path / "out")
    assert built["samples"] > 0
    assert built["problems"]["mine"]["damaged file"] >= 1
    with pytest.raises(InputError, match="cut off or damaged"):
        build(boxes_cut_off(tmp_path, file), tmp_path / "refused")


def boxes_cut_off(tmp_path, file):
    content = small_set.recipe_content(tmp_path / "source", bad_records="refuse")
    return load_recipe(small_set.write_recipe(tmp_path / "strict.yaml", content))


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil",))


def test_a_pickle_of_an_evaluation_set_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps([Evil()]))
    leaks = {"sets": {"val": {"of": "coco", "names": str(tmp_path / "refs(unc).p")}}}
    with pytest.raises(InputError, match="nothing of it was run"):
        build(boxes_of(tmp_path, leaks=leaks), tmp_path / "out")
    assert not (tmp_path / "evil").exists()


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{one}: &{one} [{', '.join([f'*{other}'] * 9)}]\n"
    for one, other in zip("bcdefghij", "abcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS + "name: a\nsources: {}\n",
        "name: !!python/object/apply:os.mkdir [evil]\nsources: {}\n",
        "name: a\nname: b\nsources: {}\n",
        "[" * 3000,
        "name: a\nsources: {mine: {kind: coco_json, root: &r x, pictures: *r}}\n",
        "\x00",
        "- 1\n",
    ],
)
def test_recipes_of_strangers(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(InputError, match=r"recipe\.yaml"):
        load_recipe(tmp_path / "recipe.yaml")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "setting",
    [
        *(
            "seed=-1",
            "seed=1e400",
            f"seed={2**64}",
            "seed=.nan",
            "shard_size=0",
            "shard_size=-5",
            "shard_size=1.5",
        ),
        *(
            "negatives=.nan",
            "negatives=.inf",
            "negatives=-1",
            "negatives=1e30",
            "leaks.near=65",
            "leaks.near=-1",
        ),
        *("sources.mine.cap=0", "sources.mine.cap=-1", "sources.mine.cap=.inf", "sources.mine.cap=x"),
        *(
            "sources.mine.tasks={object: .nan}",
            "sources.mine.tasks={object: 1e9}",
            "sources.mine.tasks={object: -1}",
        ),
        *(
            "sources.mine.tasks={object: {each: 0}}",
            "pictures=zip",
            "check_pictures=maybe",
            "bad_records=ignore",
        ),
    ],
)
def test_absurd_numbers_are_refused(tmp_path, setting):
    boxes_of(tmp_path)
    with pytest.raises(InputError):
        load_recipe(tmp_path / "recipe.yaml", [setting])


def test_absurdly_large_limits_are_no_limits(tmp_path):
    boxes_of(tmp_path)
    settings = [f"sources.mine.cap={10**30}", f"shard_size={10**18}"]
    assert build(load_recipe(tmp_path / "recipe.yaml", settings), tmp_path / "out")["samples"] > 50


@pytest.mark.parametrize("workers", [-1, 0, 10**6])
def test_absurd_numbers_of_workers_are_refused(tmp_path, workers):
    with pytest.raises(InputError, match="workers"):
        build(boxes_of(tmp_path), tmp_path / "out", workers=workers)


def test_a_pipe_among_the_annotations_does_not_hang_the_build(tmp_path):
    source = voc(tmp_path / "voc", {"1": VOC.format(name=1)})
    os.mkfifo(tmp_path / "voc/Annotations/2.xml")
    (tmp_path / "voc/ImageSets/Main/train.txt").write_text("1\n2\n")
    built = build(recipe_of(tmp_path, source), tmp_path / "out")
    assert built["pictures"] == 1
    assert sum(built["problems"]["mine"].values()) == 1


@pytest.mark.parametrize("failing", range(1, 24, 2))
def test_a_disk_that_fills_up_anywhere_loses_nothing(tmp_path, monkeypatch, failing):
    recipe = boxes_of(tmp_path, pictures="tar", shard_size=40)
    whole = build(recipe, tmp_path / "whole")
    flush, count = os.fsync, 0

    def full(descriptor):
        nonlocal count
        count += 1
        if count >= failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    ended = False
    try:
        build(recipe, tmp_path / "out")
        ended = True
    except InputError as error:
        message = str(error)
    if not ended:
        assert "disk is full" in message
        assert not (tmp_path / "out/manifest.json").exists()
        assert not list((tmp_path / "out").rglob("*.partial"))
    monkeypatch.undo()
    assert build(recipe, tmp_path / "out")["sha256"] == whole["sha256"]
