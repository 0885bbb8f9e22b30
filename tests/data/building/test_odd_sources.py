"""Sources that are odd rather than hostile: ids in other forms, pipes for files, names too long, empty lists."""

import copy
import json
import math
import os
import pickle
import resource
from contextlib import suppress

import pytest

from openferret.data.building.pipeline import build
from openferret.data.building.recipe import load_recipe
from openferret.data.formats.exporters import export_samples
from openferret.data.inspection.checking import find_problems
from openferret.data.inspection.stats import as_text, count
from openferret.data.loading.dataset import Dataset
from openferret.errors import InputError

from .. import small_set
from ..small_set import boxes_of, problems_of, recipe_of


def rewritten(tmp_path, change):
    """What becomes of a build whose COCO json was changed."""
    recipe = boxes_of(tmp_path)
    whole = build(recipe, tmp_path / "whole")
    file = tmp_path / "source/boxes.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return whole, build(recipe, tmp_path / "out")


@pytest.mark.parametrize("form", [str, float, "picture {}".format], ids=["text", "float", "words"])
def test_ids_in_another_form_are_the_same_ids(tmp_path, form):
    def change(content):
        for one in content["images"]:
            one["id"] = form(one["id"])
        for one in content["annotations"]:
            one["image_id"], one["category_id"] = form(one["image_id"]), form(one["category_id"])
        for one in content["categories"]:
            one["id"] = form(one["id"])

    whole, built = rewritten(tmp_path, change)
    assert built["problems"] == {}
    assert built["pictures"] == whole["pictures"]
    assert {one["task"] for one in built["counts"]} == {one["task"] for one in whole["counts"]}


@pytest.mark.parametrize("category", [None, "", 99, "dog", [0], "missing"])
def test_a_category_that_is_not_listed_is_never_taken_for_another(tmp_path, category):
    def change(content):
        for one in content["categories"]:
            one["id"] -= 1  # one has the id 0
        for one in content["annotations"]:
            one["category_id"] = category
            if category == "missing":
                del one["category_id"]

    _, built = rewritten(tmp_path, change)
    assert built["problems"]["mine"]["unknown category"] == 18
    assert all(not one.regions for one in Dataset.open(tmp_path / "out").samples())


OUTLINES = {
    "two points": [[1, 2, 3, 4]],
    "an odd count": [[1, 2, 3, 4, 5, 6, 7]],
    "not a number": [[math.nan] * 6],
    "words": [["a"] * 6],
    "a bomb": {"size": [48, 64], "counts": [10**15, 1]},
    "a bomb by size": {"size": [10**9, 10**9], "counts": [10**18]},
    "sides swapped": {"size": [64, 48], "counts": [0, 3072]},
    "too short": {"size": [48, 64], "counts": [1, 2, 3]},
    "damaged text": {"size": [48, 64], "counts": "\u2603PPP"},
    "cut off text": {"size": [48, 64], "counts": "PPP"},
    "negative": {"size": [48, 64], "counts": [-5, 3077]},
}


@pytest.mark.parametrize("kind", OUTLINES)
def test_outlines_that_are_none_cost_the_outline(tmp_path, kind):
    _, built = rewritten(
        tmp_path, lambda content: content["annotations"][4].update(segmentation=OUTLINES[kind])
    )
    assert built["problems"] == {"mine": {"malformed outline": 1}}
    assert not list(find_problems(Dataset.open(tmp_path / "out"), "open"))


MANGLED = (None, 5, -1, "x", [], {}, [1], {"a": 1}, {"a": {"b": "c"}}, math.nan, "../../../etc/passwd", [{}])


@pytest.mark.parametrize("pack", ["path", "tar"])
def test_a_damaged_manifest_is_refused_or_does_no_harm(tmp_path, pack):
    build(boxes_of(tmp_path, pictures=pack), tmp_path / "out")
    file = tmp_path / "out/manifest.json"
    sound = json.loads(file.read_text())
    places = [(key,) for key in sound]
    places += [("shards", 0, key) for key in sound["shards"][0]] + [("counts", 0)]
    places += [("sources", "mine")] + [("sources", "mine", key) for key in sound["sources"]["mine"]]
    for *way, last in places:
        for value in MANGLED:
            content = copy.deepcopy(sound)
            inner = content
            for key in way:
                inner = inner[key]
            inner[last] = value
            file.write_text(json.dumps(content))
            for use in (as_counted, as_checked, as_exported):
                with suppress(InputError):
                    use(tmp_path / "out", tmp_path / "exported.json")
    file.write_text(json.dumps(sound))
    assert not list(find_problems(Dataset.open(tmp_path / "out"), "open"))


def as_counted(place, _):
    as_text(Dataset.open(place), count(Dataset.open(place)))


def as_checked(place, _):
    list(find_problems(Dataset.open(place)))


def as_exported(place, target):
    export_samples(target, Dataset.open(place).samples(), "llava", None)


@pytest.mark.parametrize("setting", ["seed=yes", "shard_size=true", "sources.mine.cap=on", "leaks.near=true"])
def test_yes_is_no_number(tmp_path, setting):
    boxes_of(tmp_path)
    with pytest.raises(InputError, match="whole number"):
        load_recipe(tmp_path / "recipe.yaml", [setting])


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "o\udcff"], ids=["long", "null", "not Unicode"])
def test_names_that_no_folder_can_have_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="--out"):
        build(boxes_of(tmp_path), tmp_path / name)
    if "\udcff" not in name:  # YAML has replaced it
        content = small_set.recipe_content(tmp_path / name)
        with pytest.raises(InputError, match=r"sources\.mine\.root"):
            load_recipe(small_set.write_recipe(tmp_path / "r.yaml", content))


@pytest.mark.parametrize("key", ["templates", "analogies"])
def test_a_folder_for_a_file_is_refused_and_not_read_through(tmp_path, key):
    with pytest.raises(InputError, match="not a regular file"):
        build(boxes_of(tmp_path, **{key: str(tmp_path)}), tmp_path / "out")


VOC = (
    "<annotation><filename>{name}.jpg</filename><size><width>64</width><height>48</height></size><object>"
    "<name>dog</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>22</xmax><ymax>33</ymax></bndbox></object></annotation>"
)


def voc_of(tmp_path, names=b"1\n2\n"):
    root = tmp_path / "voc"
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_bytes(names)
    for number in (1, 2):
        (root / "Annotations" / f"{number}.xml").write_text(VOC.format(name=number))
        small_set.scene(number).save(root / f"{number}.jpg")
    return recipe_of(tmp_path, {"kind": "pascal_voc", "root": str(root), "options": {"split": "train"}})


@pytest.mark.parametrize(
    ("names", "pictures", "problems"),
    [
        (b"1\r\n2\r\n", 2, 0),
        (b"\xef\xbb\xbf1\n2\n", 2, 0),
        (b"1\r2\r", 2, 0),
        (b"1 -1\n\n  2  1\n", 2, 0),
        (b"1\n1\n2\n", 2, 1),
        (b"1\n" + b"x" * 5000 + b"\n2\n", 2, 1),
        (b"1\n../../secret\n2\n", 2, 1),
        (b"1\na\0b\n2\n", 2, 1),
        (b"", 0, 1),
    ],
)
def test_lists_of_names(tmp_path, names, pictures, problems):
    (tmp_path / "secret.xml").write_text(VOC.format(name=1))
    built = build(voc_of(tmp_path, names), tmp_path / "out")
    assert built["pictures"] == pictures
    assert len(problems_of(tmp_path / "out")) == sum(built["problems"].get("mine", {}).values()) == problems


def test_an_empty_source_is_refused_where_bad_records_are(tmp_path):
    recipe = voc_of(tmp_path, b"")
    strict = load_recipe(tmp_path / "recipe.yaml", ["bad_records=refuse"])
    assert build(recipe, tmp_path / "out")["problems"] == {"mine": {"empty source": 1}}
    with pytest.raises(InputError, match="no picture"):
        build(strict, tmp_path / "strict")


def pipe_for_a_list(tmp_path):
    voc_of(tmp_path)
    place = tmp_path / "voc/ImageSets/Main/train.txt"
    place.unlink()
    os.mkfifo(place)
    return load_recipe(tmp_path / "recipe.yaml")


def pipe_for_a_csv(tmp_path):
    (tmp_path / "csv").mkdir()
    os.mkfifo(tmp_path / "csv/boxes.csv")
    return recipe_of(tmp_path, {"kind": "boxes_csv", "root": str(tmp_path / "csv")})


def pipe_for_objects(tmp_path):
    (tmp_path / "vg").mkdir()
    (tmp_path / "vg/image_data.json").write_text('[{"image_id": 1, "width": 4, "height": 4}]')
    os.mkfifo(tmp_path / "vg/objects.json")
    return recipe_of(tmp_path, {"kind": "visual_genome", "root": str(tmp_path / "vg")})


def pipe_for_evaluation_names(tmp_path):
    os.mkfifo(tmp_path / "val.txt")
    return boxes_of(tmp_path, leaks={"sets": {"val": {"of": "coco", "names": str(tmp_path / "val.txt")}}})


def pipe_for_references(tmp_path):
    os.mkfifo(tmp_path / "refs(unc).p")
    return boxes_of(tmp_path, leaks={"sets": {"val": {"of": "coco", "names": str(tmp_path / "refs(unc).p")}}})


def folder_for_hashes(tmp_path):
    return boxes_of(tmp_path, source={"hashes": str(tmp_path)})


@pytest.mark.parametrize(
    "make",
    [
        pipe_for_a_list,
        pipe_for_a_csv,
        pipe_for_objects,
        pipe_for_evaluation_names,
        pipe_for_references,
        folder_for_hashes,
    ],
)
def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path, make):
    with pytest.raises(InputError, match=r"not a regular file|objects\.json"):
        build(make(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out/manifest.json").exists()


def test_a_pipe_among_masks_costs_the_mask(tmp_path):
    for number in (1, 2):
        (tmp_path / "own/masks" / str(number)).mkdir(parents=True)
        (tmp_path / "own/images").mkdir(exist_ok=True)
        small_set.scene(number).save(tmp_path / f"own/images/{number}.jpg")
        small_set.scene(number).convert("L").save(tmp_path / f"own/masks/{number}/dog.png")
    os.mkfifo(tmp_path / "own/masks/1/cat.png")
    built = build(
        recipe_of(tmp_path, {"kind": "mask_folder", "root": str(tmp_path / "own")}), tmp_path / "out"
    )
    assert built["problems"] == {"mine": {"unusable mask": 1}}


@pytest.mark.parametrize("encoding", ["UTF-7", "klingon", "UTF-16"])
def test_flickr30k_xml_in_an_encoding_that_cannot_be_read_costs_its_picture(tmp_path, encoding):
    root = tmp_path / "flickr"
    text = VOC.replace("<name>dog", "<name>7").format(name="1")
    for folder in ("Annotations", "Sentences"):
        (root / folder).mkdir(parents=True)
    for name, declared in (("1", f'<?xml version="1.0" encoding="{encoding}"?>'), ("2", "")):
        (root / "Annotations" / f"{name}.xml").write_text(declared + text)
        (root / "Sentences" / f"{name}.txt").write_text("[/EN#7/animals A dog] runs .\n")
        small_set.scene(int(name)).save(root / f"{name}.jpg")
    (root / "train.txt").write_text("1\n2\n")
    source = {"kind": "flickr30k_entities", "root": str(root), "options": {"split": "train"}}
    built = build(recipe_of(tmp_path, source), tmp_path / "out")
    assert built["pictures"] == 1
    assert built["problems"] == {"mine": {"damaged file": 1}}


def test_numbers_of_a_thousand_digits_in_a_pickle_cost_their_reference(tmp_path):
    root = tmp_path / "refcoco"
    root.mkdir()
    good = {
        "split": "train",
        "image_id": 1,
        "ann_id": 1,
        "ref_id": 1,
        "sentences": [{"sent": "dog", "sent_id": 1}],
    }
    huge = good | {"image_id": 10**5000, "ann_id": 10**5000}
    odd = [good | {"split": 10**5000}, good | {"ref_id": 10**5000}, {"split": "train"}]
    (root / "refs(unc).p").write_bytes(pickle.dumps([good, huge, *odd]))
    image = {"id": 1, "file_name": f"{1:012}.jpg", "width": 64, "height": 48}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 20, 30]}
    (root / "instances.json").write_text(
        json.dumps({"images": [image], "annotations": [box], "categories": []})
    )
    source = {"kind": "refcoco", "root": str(root), "pictures": str(root), "options": {"split": "train"}}
    built = build(recipe_of(tmp_path, source, check_pictures="none"), tmp_path / "out")
    assert built["pictures"] == 1
    assert built["problems"]["mine"]["unknown picture"] >= 1


@pytest.mark.parametrize(
    "runs", [f"{2**63 - 1},{2**63 - 1},{20 * 30 + 2}", f"{10**30}", "5,-5,600", "1e3", ""]
)
def test_runs_of_a_cvat_mask_that_only_add_up_by_wrapping_around(tmp_path, runs):
    mask = f'<mask label="dog" left="2" top="3" width="20" height="30" rle="{runs}"/>'
    box = '<box label="cat" xtl="2" ytl="3" xbr="22" ybr="33"/>'
    image = f'<image id="1" name="1.jpg" width="64" height="48">{mask}{box}</image>'
    (tmp_path / "annotations.xml").write_text(f"<annotations>{image}</annotations>")
    source = {"kind": "cvat", "root": str(tmp_path / "annotations.xml"), "pictures": str(tmp_path)}
    built = build(recipe_of(tmp_path, source, check_pictures="none"), tmp_path / "out")
    assert built["problems"] == {"mine": {"malformed shape": 1}}
    assert built["pictures"] == 1


def test_file_names_that_are_not_unicode_cost_their_picture(tmp_path):
    root = tmp_path / "yolo"
    (root / "images/train").mkdir(parents=True)
    for number in (1, 2):
        small_set.scene(number).save(root / f"images/train/{number}.jpg")
    (root / "images/train/2.jpg").rename(root / "images/train/a\udcff.jpg")  # the byte 0xff
    (root / "classes.txt").write_text("dog\n")
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/1.txt").write_text("0 .5 .5 .4 .4\r\n")
    built = build(recipe_of(tmp_path, {"kind": "yolo", "root": str(root)}), tmp_path / "out")
    assert built["pictures"] == 1
    assert built["problems"] == {"mine": {"damaged picture": 1}}
    assert "not Unicode" in problems_of(tmp_path / "out")[0]["message"]


def test_a_limit_on_the_size_of_files_is_told_like_a_full_disk_and_nothing_is_lost(tmp_path):
    recipe = boxes_of(tmp_path, pictures="tar")
    whole = build(recipe, tmp_path / "whole")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    stopped = 0
    for size in (0, 50, 400, 2_000, 6_000, 20_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            build(recipe, tmp_path / "out")
        except InputError as error:
            stopped += "full" in str(error) or "File too large" in str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert stopped >= 4
    assert build(recipe, tmp_path / "out")["sha256"] == whole["sha256"]
