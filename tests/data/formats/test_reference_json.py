import json
import random

import numpy as np
import pytest

from openferret.data.formats.reference_json import draw_point, expand_sample, read_items, resample
from openferret.errors import InputError
from openferret.masks import encode_rle


class Coin(random.Random):
    """Flips as it is told, and draws as ever."""

    def __init__(self, point):
        super().__init__(0)
        self.point = point

    def random(self):
        return 0.1 if self.point else 0.9


def sample(**changes):
    return {
        "image": "img.jpg",
        "image_w": 120,
        "image_h": 80,
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is <bbox_location0>?"},
            {"from": "gpt", "value": "a cat <bbox_location0>"},
        ],
        "box_x1y1x2y2": [[[25, 22, 75, 58]], [[-3, 5, 130, 70]]],
    } | changes


def test_boxes_in_words_and_masks():
    item = expand_sample(sample(), "center", Coin(point=False))
    assert item.turns == (("What is [208, 275, 625, 725] <region_fea>?", "a cat [0, 62, 991, 875]"),)
    assert item.masks[0].sum() == 51 * 37


@pytest.mark.parametrize("style", ["center", "uniform", "gaussian"])
def test_a_point_lies_in_its_mask_and_its_window_is_cut_to_it(style):
    mask = np.zeros((80, 120), bool)
    mask[30:50, 30:34] = True
    segments = [[encode_rle(mask)], []]
    item = expand_sample(sample(masks=segments), style, Coin(point=True))
    words = item.turns[0][0].split("[")[1].split("]")[0].split(", ")
    assert len(words) == 2
    assert 30 <= int(words[0]) * 120 / 1000 + 1 < 35
    assert 0 < item.masks[0].sum() <= 11 * 4
    assert not (item.masks[0] & ~mask).any()


def test_the_centre_is_the_nearest_of_the_pixels_drawn():
    mask = np.zeros((80, 120), bool)
    mask[40, 50] = mask[0, 0] = True
    assert draw_point((25, 22, 75, 58), mask, "center", random.Random(3)) in ((50, 40), (0, 0))


def test_a_point_without_a_mask_lies_in_its_box():
    generator = random.Random(0)
    for _ in range(50):
        x, y = draw_point((10, 20, 30, 22), None, "gaussian", generator)
        assert 10 <= x <= 30
        assert 20 <= y <= 22


def test_a_mask_that_misses_its_box_leaves_the_box():
    mask = np.zeros((80, 120), bool)
    mask[0, 0] = True
    item = expand_sample(sample(masks=[[encode_rle(mask)], []]), "center", Coin(point=False))
    assert item.masks[0].sum() == 51 * 37


def test_words_that_look_like_placeholders_are_words():
    turns = [
        {"from": "human", "value": "<image>\n<region_fea> </s> <bbox_location0>"},
        {"from": "gpt", "value": "yes"},
    ]
    item = expand_sample(sample(conversations=turns), "center", Coin(point=False))
    assert item.turns[0][0].count("<region_fea>") == 1
    assert "</s>" not in item.turns[0][0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conversations": [{"from": "gpt", "value": "a"}]}, "turn 0 should be the human's"),
        ({"conversations": [{"from": "human", "value": "a"}]}, "an answer to every question"),
        ({"box_x1y1x2y2": []}, "<bbox_location0> has no box"),
        ({"image_w": None}, "cannot be used"),
        ({"masks": [[encode_rle(np.ones((3, 3), bool))], []]}, "a mask is .* pixels, but its picture"),
    ],
)
def test_samples_that_cannot_be_used_are_named(tmp_path, changes, said):
    path = tmp_path / "data.json"
    path.write_text(json.dumps([sample(), sample(**changes)]), encoding="utf-8")
    items = read_items(path)
    next(items)
    with pytest.raises(InputError, match=f"sample 1 of .*{said}"):
        next(items)


def test_files_that_are_no_list(tmp_path):
    path = tmp_path / "data.json"
    for text in ("{}", "[", ""):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"data\.json"):
            next(read_items(path))


def test_mixture_keeps_whole_copies_and_draws_the_rest():
    drawn = resample(range(10), 2.3, random.Random(0))
    assert drawn[:20] == [*range(10)] * 2
    assert len(drawn) == 23
    assert resample(range(10), 0, random.Random(0)) == []
