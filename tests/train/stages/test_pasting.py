import json

import numpy as np
import pytest
from PIL import Image

from openferret.errors import InputError
from openferret.train.stages.pasting import Cutout, paste_things, read_cutouts
from openferret.train.stages.pictures import Named, Record, held_out

CUP = Cutout("cup", 0.25, 0.25, np.full((40, 40, 4), 255, np.uint8))
GREY = np.full((3, 224, 224, 3), 90, np.uint8)
MIDDLE = (0.3, 0.3, 0.7, 0.7)


def record(*named, absent=(), row=2):
    heads = frozenset(one.head for one in named)
    return Record(row, named, heads, False, name="flickr30k:7", absent=absent)


def named(text, head, box):
    return Named(text, head, (box,), False)


def paste(*records, share=1.0, seed=0, cutouts=None, most=1):
    made = {"cup": (CUP,)} if cutouts is None else cutouts
    return paste_things(GREY, records, made, np.random.default_rng(seed), share, most)


def test_what_is_pasted_is_seen_where_its_box_says():
    pixels, (changed,) = paste(record(named("a dog", "dog", MIDDLE)))
    cup = changed.named[-1]
    assert (cup.text, cup.head, cup.detected) == ("a cup", "cup", 1.0)
    left, top, right, bottom = (round(side * 224) for side in cup.boxes[0])
    bright = (pixels[0] > 200).all(-1)
    assert bright[top:bottom, left:right].all()
    assert bright.sum() == (bottom - top) * (right - left)


def test_pixels_and_records_are_in_one_order_and_the_store_stays_as_it_is():
    pixels, changed = paste(record(row=2), record(row=0))
    assert pixels.shape == (2, 224, 224, 3)
    assert [one.row for one in changed] == [0, 1]
    assert (GREY == 90).all()


def test_a_class_is_there_then_and_no_longer_absent():
    _, (changed,) = paste(record(absent=("cup", "chair")))
    assert "cup" in changed.heads
    assert changed.absent == ("chair",)


def test_what_the_picture_shows_already_is_not_pasted():
    known = record(named("the mug", "cup", MIDDLE))
    pixels, (changed,) = paste(known)
    assert changed.named == known.named
    assert (pixels == 90).all()


@pytest.mark.parametrize("seed", range(20))
def test_most_of_what_is_named_stays_visible(seed):
    box = (0.1, 0.1, 0.3, 0.3)
    _, (changed,) = paste(record(named("a ball", "ball", box)), seed=seed)
    _, cup = changed.named
    ((left, top, right, bottom),) = cup.boxes
    width, height = min(right, box[2]) - max(left, box[0]), min(bottom, box[3]) - max(top, box[1])
    assert max(width, 0) * max(height, 0) <= 0.35 * 0.04 + 1e-9


def test_a_picture_without_room_is_left_alone():
    spots = [
        named(f"tile {k}", f"tile{k}", (x / 40, y / 40, (x + 1) / 40, (y + 1) / 40))
        for k, (x, y) in enumerate((x, y) for x in range(40) for y in range(40))
    ]
    full = record(*spots)
    _, (changed,) = paste(full)
    assert changed.named == full.named


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 60)])
def test_the_share_of_pictures_that_get_something(share, expected):
    _, changed = paste(*[record(row=0)] * 60, share=share)
    assert sum(bool(one.named) for one in changed) == expected


def test_several_things_are_of_different_classes():
    cutouts = {name: (Cutout(name, 0.1, 0.1, CUP.pixels),) for name in ("cup", "fork", "spoon")}
    _, (changed,) = paste(record(), cutouts=cutouts, most=3, seed=4)
    heads = [one.head for one in changed.named]
    assert len(set(heads)) == len(heads) > 1


def thing(number, picture, box, name=1, crowd=0):
    left, top, right, bottom = box
    outline = [left, top, right, top, right, bottom, left, bottom]
    return {
        "id": number,
        "image_id": picture,
        "category_id": name,
        "iscrowd": crowd,
        "bbox": [left, top, right - left, bottom - top],
        "segmentation": {"counts": [1], "size": [1, 1]} if crowd else [outline],
    }


def test_cutouts_are_whole_things_of_pictures_that_are_trained_on(tmp_path):
    trained, kept_back = (next(k for k in range(1, 99) if held_out(k) is held) for held in (False, True))
    Image.new("RGB", (200, 100), (10, 200, 30)).save(tmp_path / "a.png")
    annotations = tmp_path / "instances.json"
    content = {
        "images": [
            {"id": picture, "file_name": "a.png", "width": 200, "height": 100}
            for picture in (trained, kept_back)
        ],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "person"}],
        "annotations": [
            thing(1, trained, (20, 10, 60, 60)),
            thing(2, trained, (0, 10, 60, 60)),  # the picture's edge cuts it off
            thing(3, trained, (50, 50, 53, 53)),  # too small
            thing(4, trained, (20, 10, 60, 60), name=2),
            thing(5, trained, (20, 10, 60, 60), crowd=1),
            thing(6, kept_back, (20, 10, 60, 60)),
        ],
    }
    annotations.write_text(json.dumps(content))
    cutouts = read_cutouts(annotations, tmp_path)
    assert list(cutouts) == ["cup"]
    (cup,) = cutouts["cup"]
    assert (cup.width, cup.height) == pytest.approx((0.195, 0.49))
    middle = cup.pixels[len(cup.pixels) // 2, cup.pixels.shape[1] // 2]
    assert middle.tolist() == [10, 200, 30, 255]


def test_without_coco_there_is_nothing_to_cut_out(tmp_path):
    with pytest.raises(InputError, match="COCO"):
        read_cutouts(tmp_path / "none.json", tmp_path)
