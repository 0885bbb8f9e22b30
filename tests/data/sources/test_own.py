"""One's own boxes: YOLO folders, Label Studio, CVAT, CSV and folders of masks."""

import json
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from openferret.data.outlines import outline_mask
from openferret.data.problems import Problems
from openferret.data.sources import SOURCES, read_source
from openferret.errors import InputError
from openferret.regions import Box


def read(kind, root, problems=None, pictures=None, **options):
    return list(read_source(kind, root, problems or Problems(strict=True), pictures, **options))


def yolo(making, root, labels, description="train: ../train/images\nnames: {0: cat, 2: red car}\n"):
    making.write_picture(root / "train/images/b.jpg")
    making.write_picture(root / "train/images/a.png")
    (root / "train/labels").mkdir()
    (root / "train/labels/b.txt").write_text(labels)
    (root / "data.yaml").write_text(description)
    return root


def test_yolo_boxes_and_outlines(making, tmp_path):
    labels = "2 0.5 0.5 0.5 0.2\n\n0 0.1 0.1 0.5 0.1 0.5 0.5\n"
    empty, record = read("yolo", yolo(making, tmp_path, labels))
    assert empty.objects == ()
    assert record.picture.file == "train/images/b.jpg"
    car, cat = record.objects
    assert (car.name, car.box) == ("red car", Box(10, 12, 30, 18))
    assert cat.box == Box(4, 3, 20, 15)
    assert outline_mask(cat.outline, 40, 30).array.sum() > 50
    assert [one.name for one in record.vocabulary.categories] == ["cat", "red car"]


@pytest.mark.parametrize("exhaustive", [True, False])
def test_all_of_a_class_are_known_only_if_a_person_says_so(making, tmp_path, exhaustive):
    vocabulary = read("yolo", yolo(making, tmp_path, ""), exhaustive=exhaustive)[0].vocabulary
    assert (vocabulary.exhaustive, vocabulary.instances) == (exhaustive, exhaustive)


def test_yolo_with_a_list_of_classes(making, tmp_path):
    yolo(making, tmp_path, "1 .5 .5 .5 .2")
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert read("yolo", tmp_path)[1].objects[0].name == "dog"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("2 .5 .5 .5", "malformed line"),
        ("cat .5 .5 .5 .2", "malformed line"),
        ("1 .5 .5 .5 .2", "unknown category"),
        ("nan .5 .5 .5 .2", "unknown category"),
        ("2 .5 .5 nan .2", "malformed box"),
        ("2 .5 .5 0 .2", "empty box"),
        ("2 .5 .5 -1 .2", "inverted box"),
        ("2 5 .5 .5 .2", "box outside the picture"),
    ],
)
def test_bad_yolo_lines_are_counted(making, tmp_path, line, kind):
    problems = Problems()
    records = read("yolo", yolo(making, tmp_path, f"{line}\n0 .5 .5 .5 .2"), problems)
    assert problems.counts == {kind: 1}
    assert problems.examples[0].place == "b.txt line 1"
    assert len(records[1].objects) == 1


def test_yolo_folders_that_are_incomplete(making, tmp_path):
    with pytest.raises(InputError, match=r"data\.yaml or classes\.txt"):
        read("yolo", tmp_path)
    yolo(making, tmp_path, "", "names: []\n")
    with pytest.raises(InputError, match="names no classes"):
        read("yolo", tmp_path)
    (tmp_path / "data.yaml").write_text("names: [cat]\n")
    with pytest.raises(InputError, match="images/val"):
        read("yolo", tmp_path, split="val")
    (tmp_path / "data.yaml").write_text("names: [&a cat, *a]\n")
    with pytest.raises(InputError, match=r"data\.yaml"):
        read("yolo", tmp_path)


def result(key, kind, **value):
    return {"id": key, "type": kind, "original_width": 40, "original_height": 30, "value": value}


BOX = {"x": 25, "y": 10, "width": 50, "height": 20, "rotation": 0, "rectanglelabels": ["cat", "black"]}


def task(*results, **changes):
    annotations = [{"was_cancelled": True, "result": []}, {"result": list(results)}]
    return {"id": 3, "data": {"image": "/data/upload/1/a.jpg"}, "annotations": annotations} | changes


def test_label_studio_shapes_and_relations(making, tmp_path):
    results = [
        result("a", "rectanglelabels", **BOX),
        result("b", "polygonlabels", points=[[0, 0], [50, 0], [50, 50]], polygonlabels=["dog"]),
        result("c", "ellipselabels", x=50, y=50, radiusX=10, radiusY=20, ellipselabels=["ball"]),
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "left", "labels": ["beside"]},
        {"type": "choices", "value": {"choices": ["indoors"]}},
    ]
    making.write_json(tmp_path / "export.json", [task(*results)])
    (record,) = read("label_studio", tmp_path)
    cat, dog, ball = record.objects
    assert (cat.name, cat.attributes, cat.box) == ("cat", ("black",), Box(10, 3, 30, 9))
    assert (dog.box, ball.box) == (Box(0, 0, 20, 15), Box(16, 9, 24, 21))
    assert [(one.subject, one.predicate, one.object) for one in record.relationships] == [(1, "beside", 0)]


def test_a_turned_rectangle_has_the_box_round_it(making, tmp_path):
    turned = {"x": 50, "y": 50, "width": 10, "height": 20, "rotation": 90, "rectanglelabels": ["cat"]}
    making.write_json(tmp_path / "export.json", [task(result("a", "rectanglelabels", **turned))])
    box = read("label_studio", tmp_path)[0].objects[0].box
    assert (box.x1, box.y1, box.x2, box.y2) == pytest.approx((14, 15, 20, 19))


@pytest.mark.parametrize(
    ("results", "kind"),
    [
        ([result("a", "brushlabels", rle=[1], brushlabels=["cat"])], "unsupported result"),
        ([result("a", "rectanglelabels", **(BOX | {"rectanglelabels": []}))], "object without a name"),
        ([result("a", "rectanglelabels", **(BOX | {"x": "left"}))], "malformed box"),
        ([result("a", "rectanglelabels", **(BOX | {"width": -3}))], "malformed box"),
        ([result("a", "rectanglelabels", **(BOX | {"x": 130}))], "box outside the picture"),
        ([result("a", "polygonlabels", points=[], polygonlabels=["a"])], "malformed box"),
    ],
)
def test_bad_label_studio_results_are_counted(making, tmp_path, results, kind):
    making.write_json(
        tmp_path / "export.json", [task(*results, result("z", "rectanglelabels", **BOX)), 3, {"data": 3}]
    )
    problems = Problems()
    (record,) = read("label_studio", tmp_path, problems)
    assert [one.id for one in record.objects] == ["z"]
    assert problems.counts == {kind: 1, "no picture": 2}


def test_label_studio_files_of_another_form(making, tmp_path):
    making.write_json(tmp_path / "export.json", {"a": 1})
    with pytest.raises(InputError, match="a list of tasks"):
        read("label_studio", tmp_path)


def cvat(root, shapes, size='width="40" height="30"'):
    text = f'<annotations><meta/><image id="0" name="a/1.jpg" {size}>{shapes}</image></annotations>'
    (root / "annotations.xml").write_text(text)
    return root


def test_cvat_shapes(tmp_path):
    shapes = """<box label="cat" xtl="1" ytl="2" xbr="9" ybr="8"><attribute name="colour">red</attribute>
<attribute name="old">false</attribute><attribute name="age">3</attribute></box>
<polygon label="dog" points="1,1;9,1;9,9"/><ellipse label="ball" cx="10" cy="10" rx="2" ry="3"/>
<mask label="mat" rle="1,2,1,2" left="4" top="5" width="3" height="2"/><tag label="indoors"/>"""
    (record,) = read("cvat", cvat(tmp_path, shapes))
    cat, dog, ball, mat = record.objects
    assert (cat.box, cat.attributes) == (Box(1, 2, 9, 8), ("red",))
    assert (dog.box, ball.box, mat.box) == (Box(1, 1, 9, 9), Box(8, 7, 12, 13), Box(5, 5, 7, 7))
    expected = np.zeros((30, 40), bool)
    expected[5:7, 4:7] = [[False, True, True], [False, True, True]]
    assert (outline_mask(mat.outline, 40, 30).array == expected).all()


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ('<box label="a" xtl="1" ytl="2" xbr="9"/>', "malformed shape"),
        ('<box label="a" xtl="9" ytl="2" xbr="1" ybr="8"/>', "inverted box"),
        ('<box xtl="1" ytl="2" xbr="9" ybr="8"/>', "object without a name"),
        ('<polygon label="a" points="1,1;9"/>', "malformed shape"),
        ('<polyline label="a" points="1,1;9,1"/>', "unsupported shape"),
        ('<mask label="a" rle="1" left="0" top="0" width="999999" height="999999"/>', "malformed shape"),
        ('<mask label="a" rle="1,5" left="38" top="5" width="3" height="2"/>', "malformed shape"),
        ('<mask label="a" rle="6" left="0" top="5" width="3" height="2"/>', "malformed shape"),
        ('<mask label="a" rle="7,-1" left="0" top="5" width="3" height="2"/>', "malformed shape"),
    ],
)
def test_bad_cvat_shapes_are_counted(tmp_path, shape, kind):
    problems = Problems()
    (record,) = read(
        "cvat", cvat(tmp_path, shape + '<box label="cat" xtl="1" ytl="2" xbr="9" ybr="8"/>'), problems
    )
    assert len(record.objects) == 1
    assert problems.counts == {kind: 1}


def test_cvat_files_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match=r"annotations\.xml"):
        read("cvat", tmp_path)
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotations>&b;</annotations>'
    for text, said in (
        (bomb, "document type"),
        ("<annotations/>", "no <image>"),
        ("<a", "not XML"),
        ("", "not XML"),
    ):
        (tmp_path / "annotations.xml").write_text(text)
        with pytest.raises(InputError, match=said):
            read("cvat", tmp_path)
    problems = Problems()
    assert read("cvat", cvat(tmp_path, "", 'width="a" height="3"'), problems) == []
    assert problems.counts == {"malformed picture": 1}
    cvat(tmp_path, "")
    path = tmp_path / "annotations.xml"
    path.write_text(path.read_text()[:-10])
    problems = Problems()
    assert len(read("cvat", tmp_path, problems)) == 1
    assert problems.counts == {"damaged file": 1}


def test_a_csv_of_boxes(tmp_path):
    (tmp_path / "a.csv").write_text(
        "\ufeffFilename,xmin,ymin,xmax,ymax,class,width,height,attributes\n"
        'b.jpg,1,2,9,8,"a cat, black",40,30,\na.jpg,0,0,5,5,dog,40,30,red; tall\nb.jpg,3,3,9,9,dog,40,30,\n',
        encoding="utf-8",
    )
    second, first = read("boxes_csv", tmp_path)
    assert [one.name for one in second.objects] == ["a cat, black", "dog"]
    assert second.objects[0].box == Box(1, 2, 9, 8)
    assert first.objects[0].attributes == ("red", "tall")


def test_a_csv_of_normalized_sides(making, tmp_path):
    (tmp_path / "a.csv").write_text("image,label,x,y,w,h\na.jpg,cat,0.25,0.5,0.5,0.25\nno.jpg,cat,0,0,1,1\n")
    making.write_picture(tmp_path / "pictures/a.jpg")
    problems = Problems()
    (record,) = read("boxes_csv", tmp_path, problems, tmp_path / "pictures", space="normalized")
    assert record.objects[0].box == Box(10, 15, 30, 22.5)
    assert problems.counts == {"missing picture": 1}


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("a.jpg,1,2,9,,cat,40,30", "malformed box"),
        ("a.jpg,1,2", "object without a name"),
        ("a.jpg,9,2,1,8,cat,40,30", "inverted box"),
        ("a.jpg,1,2,1e999,8,cat,40,30", "malformed box"),
        (",1,2,9,8,cat,40,30", "malformed line"),
        ("b.jpg,1,2,9,8,cat,0,30", "picture of unknown size"),
    ],
)
def test_bad_csv_lines_are_counted(tmp_path, line, kind):
    head = "picture,x1,y1,x2,y2,label,width,height\n"
    (tmp_path / "a.csv").write_text(f"{head}a.jpg,1,2,9,8,dog,40,30\n{line}\n")
    problems = Problems()
    (record,) = read("boxes_csv", tmp_path, problems)
    assert len(record.objects) == 1
    assert problems.counts == {kind: 1}
    assert problems.examples[0].place == "a.csv line 3"


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "picture,x1,y1,x2,y2\n", '"'])
def test_a_csv_without_the_columns(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=r"a\.csv lacks the columns"):
        read("boxes_csv", tmp_path)


def test_a_csv_that_is_damaged(tmp_path):
    (tmp_path / "a.csv").write_bytes(
        b"picture,x1,y1,x2,y2,label,width,height\na.jpg,1,2,9,8,dog,40,30\n" + b"\xff" * 9000
    )
    problems = Problems()
    read("boxes_csv", tmp_path, problems)
    assert problems.counts == {"damaged file": 1}
    with pytest.raises(InputError, match="space must be one of"):
        read("boxes_csv", tmp_path, space="miles")


def test_a_folder_of_masks(making, tmp_path):
    making.write_picture(tmp_path / "images/a.jpg")
    mask = np.zeros((30, 40), np.uint8)
    mask[5:10, 3:9] = 255
    for name in ("red_car.png", "red_car-2.png", "dog.png"):
        (tmp_path / "masks/a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks/a" / name)
    Image.fromarray(mask[:5]).save(tmp_path / "masks/a/small.png")
    Image.fromarray(mask * 0).save(tmp_path / "masks/a/empty.png")
    (tmp_path / "masks/a/broken.png").write_bytes(b"PNG")
    (tmp_path / "masks/b").mkdir()
    problems = Problems()
    (record,) = read("mask_folder", tmp_path, problems)
    assert [one.name for one in record.objects] == ["dog", "red car", "red car"]
    assert record.objects[0].box == Box(3, 5, 9, 10)
    assert problems.counts == {"unusable mask": 3, "missing picture": 1}


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"masks .*images"):
        read("mask_folder", tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read("yolo", tmp_path / "nothing")
    with pytest.raises(InputError, match="not a folder"):
        read("yolo", tmp_path, pictures=tmp_path / "nothing")
    with pytest.raises(InputError, match="is not a source; known are visual_genome"):
        read("imagenet", tmp_path)
    with pytest.raises(InputError, match="no option 'spilt'; it has: split"):
        read("coco", tmp_path, spilt="a")
    with pytest.raises(InputError, match="must be bool"):
        read("yolo", tmp_path, exhaustive="yes")
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match="nothing is unpacked"):
        read("coco_json", tmp_path / "a.zip")


@pytest.mark.parametrize("kind", SOURCES)
def test_an_empty_folder_is_named_by_every_reader(kind, tmp_path):
    with pytest.raises(InputError, match=r".+") as raised:
        read(kind, tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)
    json.dumps(SOURCES[kind].options())


def test_a_picture_lying_on_its_side_is_read_upright(making, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    making.write_picture(tmp_path / "p/a.jpg", exif=exif)
    (tmp_path / "a.csv").write_text("picture,x1,y1,x2,y2,label\na.jpg,1,2,9,8,dog\n../a.csv,1,2,9,8,dog\n")
    problems = Problems()
    (record,) = read("boxes_csv", tmp_path / "a.csv", problems, tmp_path / "p")
    assert (record.picture.width, record.picture.height) == (30, 40)
    assert problems.counts == {"missing picture": 1}


@pytest.mark.parametrize("name", ["my  cat.png", "Screenshot at 9.41\u202fAM.png", "cafe\u0301 100%.png"])
def test_a_picture_is_found_whatever_spaces_its_name_has(making, tmp_path, name):
    making.write_picture(tmp_path / name)
    shown = {"images": [{"id": 1, "width": 40, "height": 30, "file_name": name}]}
    boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}]
    content = shown | {"categories": [{"id": 1, "name": "cat"}], "annotations": boxes}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    (record,) = read("coco_json", tmp_path / "coco.json", pictures=tmp_path)
    assert record.picture.file == name
    for path in (f"/data/upload/1/{name}", f"/data/local-files/?d={quote(name)}"):
        task = {"id": 1, "data": {"image": path}, "annotations": [{"result": []}]}
        (tmp_path / "tasks.json").write_text(json.dumps([task]))
        (record,) = read("label_studio", tmp_path / "tasks.json", pictures=tmp_path)
        assert record.picture.file == name


@pytest.mark.parametrize("path", ["..%2f..%2fsecret.png", "%00.png", "a\0.png", "%"])
def test_a_quoted_path_leads_nowhere_else(making, tmp_path, path):
    making.write_picture(tmp_path / "secret.png")
    (tmp_path / "in").mkdir()
    task = {"id": 1, "data": {"image": f"/data/local-files/?d={path}"}, "annotations": [{"result": []}]}
    (tmp_path / "tasks.json").write_text(json.dumps([task]))
    problems = Problems()
    assert not read("label_studio", tmp_path / "tasks.json", problems, pictures=tmp_path / "in")
    assert dict(problems.counts) == {"missing picture": 1}


def one_lost(making, root, kind):
    """A source of each kind with a cat whose box can be used, and a dog whose box cannot."""
    making.write_picture(root / "a.jpg")
    if kind == "yolo":
        yolo(making, root, "0 .5 .5 .2 .2\n1 .5 .5 0 .2\n", "names: [cat, dog]\n")
    elif kind == "label_studio":
        dog = result("b", "rectanglelabels", **(BOX | {"width": -3, "rectanglelabels": ["dog"]}))
        cat = result("a", "rectanglelabels", **(BOX | {"rectanglelabels": ["cat"]}))
        making.write_json(root / "export.json", [task(cat, dog)])
    elif kind == "cvat":
        shape = '<box label="{}" xtl="{}" ytl="2" xbr="9" ybr="8"/>'
        cvat(root, shape.format("cat", 1) + shape.format("dog", 30))
    elif kind == "boxes_csv":
        head = "picture,label,x1,y1,x2,y2,width,height"
        (root / "a.csv").write_text(f"{head}\na.jpg,cat,1,1,9,9,40,30\na.jpg,dog,9,1,1,9,40,30\n")
    elif kind == "pascal_voc":
        sides = "<xmin>{}</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax>"
        box = f"<object><name>{{}}</name><bndbox>{sides}</bndbox></object>"
        size = "<size><width>40</width><height>30</height></size>"
        for folder in ("Annotations", "ImageSets/Main"):
            (root / folder).mkdir(parents=True)
        text = f"<annotation>{size}{box.format('cat', 2)}{box.format('dog', 30)}</annotation>"
        (root / "Annotations/a.xml").write_text(text)
        (root / "ImageSets/Main/train.txt").write_text("a\n")
    else:
        images = [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}]
        boxes = [{"id": n, "image_id": 1, "category_id": n, "bbox": [1, 1, 9 - 9 * n, 9]} for n in (0, 1)]
        names = [{"id": n, "name": name} for n, name in enumerate(("cat", "dog"))]
        making.write_json(root / "a.json", {"images": images, "annotations": boxes, "categories": names})
    return root


@pytest.mark.parametrize("kind", ["yolo", "label_studio", "cvat", "boxes_csv", "pascal_voc", "coco_json"])
def test_a_thing_whose_box_cannot_be_used_is_known_to_be_there(making, tmp_path, kind):
    problems = Problems()
    record = read(kind, one_lost(making, tmp_path, kind), problems)[-1]
    assert problems.total == 1
    assert [one.name for one in record.objects] == ["cat"]
    assert record.not_exhaustive == ("dog",)


@pytest.mark.parametrize(
    "listed", ["../train/images", "[train/images]", "/elsewhere/set/train/images", "train.txt"]
)
def test_a_yolo_split_is_what_its_description_lists(making, tmp_path, listed):
    yolo(making, tmp_path, "", f"train: {listed}\nval: val.txt\nnames: [cat]\n")
    (tmp_path / "train.txt").write_text("./train/images/a.png\n/elsewhere/set/train/images/b.jpg\n\n")
    (tmp_path / "val.txt").write_text("train/images/b.jpg\n")
    assert [one.picture.file for one in read("yolo", tmp_path)] == [
        "train/images/a.png",
        "train/images/b.jpg",
    ]
    assert [one.picture.file for one in read("yolo", tmp_path, split="val")] == ["train/images/b.jpg"]


def test_keypoints_of_a_yolo_line_are_no_outline(making, tmp_path):
    about = "kpt_shape: [2, 3]\nnames: [cat]\n"
    yolo(making, tmp_path, "0 .5 .5 .5 .2 .1 .1 2 0 0 0\n", about)
    (cat,) = read("yolo", tmp_path)[1].objects
    assert (cat.box, cat.outline) == (Box(10, 12, 30, 18), None)


def test_yolo_names_are_what_a_person_wrote(making, tmp_path):
    yolo(making, tmp_path, "1 .5 .5 .5 .2\n", 'names: {"0": cat, "1": dog}\n')
    assert read("yolo", tmp_path)[1].objects[0].name == "dog"
    (tmp_path / "data.yaml").write_text("names: [yes, no]\n")
    with pytest.raises(InputError, match=r"YAML reads otherwise: quote it"):
        read("yolo", tmp_path)
