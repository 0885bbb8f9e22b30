from __future__ import annotations

import numpy as np
import torch

from openferret.model.closer_look import CloserLook
from openferret.model.vision import EfficientNetLiteConfig
from openferret.train.stages.pictures import Named, Record
from openferret.train.stages.run_closer_look import (
    Crops,
    DrawnRegion,
    drawn_for_training,
    evaluate,
    mixed,
    named_boxes,
    new_optimizer,
    read_crops,
)

LEFT, RIGHT = (0.0, 0.25, 0.25, 0.75), (0.5, 0.25, 1.0, 0.75)
RECORD = Record(
    0,
    (
        Named("a dog", "dog", (LEFT,), False),
        Named("two cats", "cat", (LEFT, RIGHT), False),
        Named("a yak", "yak", (RIGHT,), False),
    ),
    frozenset(),
    False,
)


def test_things_are_named_by_the_nouns_that_are_known():
    nouns = {"dog": 0, "cat": 1}
    boxes = {one.box: one for one in named_boxes([RECORD], nouns, alone=False)}
    assert set(boxes[LEFT].shares) == {0, 1}
    assert set(boxes[RIGHT].shares) == {1}
    measured = {one.box: one for one in named_boxes([RECORD], nouns, alone=True)}
    assert measured[RIGHT].shares == {}
    assert measured[RIGHT].heads == {"yak"}


def test_drawings_stay_on_the_picture():
    one = named_boxes([RECORD], {"dog": 0}, alone=False)[0]
    generator = np.random.default_rng(0)
    for kind in ("box", "point", "scribble"):
        for _ in range(20):
            x1, y1, x2, y2 = drawn_for_training(one, kind, generator).bounds
            assert 0 <= x1 <= x2 <= 1
            assert 0 <= y1 <= y2 <= 1


def test_a_mirrored_crop_has_mirrored_bounds():
    pixels = np.zeros((1, 224, 224, 3), np.uint8)
    pixels[0, :, :112] = 255
    region = DrawnRegion(0, (0.3, 0.4, 0.5, 0.6), "box")
    crops = read_crops(pixels, [region], 32)
    plain = crops.pixels()
    assert plain.shape == (1, 3, 32, 32)
    assert plain[0, 0, 0, 0] > plain[0, 0, 0, -1]
    assert torch.allclose(crops.bounds, torch.tensor([[0.3, 0.4, 0.5, 0.6]]))
    seen = set()
    for seed in range(10):
        crops = read_crops(pixels, [region], 32, np.random.default_rng(seed))
        crop = crops.pixels()
        mirrored = bool(crops.bounds[0, 0] > 0.4)
        assert mirrored == bool(crop[0, 0, 0, 0] < crop[0, 0, 0, -1])
        seen.add(mirrored)
    assert seen == {False, True}


def test_the_first_stages_rest_and_what_is_right_is_counted():
    model = CloserLook(EfficientNetLiteConfig(), 2)
    optimizer = new_optimizer(model)
    assert not model.trunk.stem.weight.requires_grad
    assert not next(model.trunk.stages[2].parameters()).requires_grad
    assert model.trunk.stages[3][0].project.weight.requires_grad
    trained = sum(one.numel() for group in optimizer.param_groups for one in group["params"])
    assert trained == sum(one.numel() for one in model.parameters() if one.requires_grad)
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.copy_(torch.tensor([1.0, 0.0]))
    store = np.zeros((1, 224, 224, 3), np.uint8)
    measured = named_boxes([RECORD], {"dog": 0, "cat": 1}, alone=True)
    assert evaluate(model, store, measured, ["dog", "cat"], 32) == {
        "box": 0.5,
        "point": 0.5,
        "scribble": 0.5,
    }


def test_mixed_crops_keep_what_they_are_called():
    generator = torch.Generator().manual_seed(0)
    cut = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8, generator=generator)
    bounds, nouns = torch.rand(6, 4, generator=generator), torch.eye(6)
    crops = Crops(cut, bounds, nouns=nouns)
    pixels, places, names = mixed(crops, 0.0)
    assert torch.equal(pixels, crops.pixels())
    assert torch.equal(names, nouns)
    torch.manual_seed(1)
    pixels, places, names = mixed(crops, 0.4)
    assert torch.allclose(names.sum(-1), torch.ones(6))
    assert torch.allclose(pixels, torch.einsum("rn,nchw->rchw", names, crops.pixels()), atol=1e-5)
    assert torch.allclose(places, names @ bounds, atol=1e-6)
