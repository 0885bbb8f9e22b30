from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from openferret.model.namer import RegionNamer
from openferret.train.stages.namer_folds import FOLDS, NamerFolds, fold_of
from openferret.train.stages.pictures import Named, Record
from openferret.train.stages.run_naming import NamedRegions, Scale, new_namer, read_all, train_namer


def test_a_folded_layer_reads_features_as_the_scaled_one_did():
    generator = torch.Generator().manual_seed(0)
    features = (torch.randn(500, 6, generator=generator) * torch.tensor([1, 10, 0.1, 5, 1, 2]) + 3).half()
    scale = Scale.of(features)
    scaled = (features.float() - scale.mean) / scale.deviation
    assert torch.allclose(scaled.mean(0), torch.zeros(6), atol=1e-2)
    assert torch.allclose(scaled.std(0), torch.ones(6), atol=5e-2)
    layer = nn.Linear(6, 4)
    with torch.no_grad():
        plain = layer(features.float())
        scale.unfold(layer)
        assert torch.allclose(layer(scaled), plain, atol=1e-3)
        scale.fold(layer)
        assert torch.allclose(layer(features.float()), plain, atol=1e-3)


class Maps:
    """A trunk that sees a picture's left half as 0 and its right half as 1, and remembers what it was shown."""

    def __init__(self):
        self.shown = []
        self.namer = SimpleNamespace(hidden=torch.nn.Linear(1, 1))  # on the device that everything goes to

    def eval(self):
        return self

    def vision(self, pixels):
        self.shown.append(pixels)
        level = torch.zeros(len(pixels), 1, 8, 8)
        level[..., 4:] = 1
        return SimpleNamespace(feature_maps=[level])

    def sampler(self, maps, points, anchors, neighbors, picture):
        return torch.zeros(len(points), 2)


def test_other_views_show_other_crops_of_what_is_still_in_them():
    store = np.random.default_rng(0).integers(0, 255, (3, 224, 224, 3), np.uint8)
    corner, middle = (0.0, 0.0, 0.1, 0.1), (0.3, 0.3, 0.7, 0.7)
    named = tuple(Named("a dog", "dog", (box,), False) for box in (corner, middle))
    records = [Record(row, named, frozenset({"dog"}), False) for row in range(3)]
    model = Maps()
    whole, crops, again = (read_all(model, store, records, {"dog": 0}, 64, view=view) for view in (0, 1, 1))
    assert len(whole.mentions) == 3 * 2 * 3  # pictures, boxes, kinds
    assert 3 * 3 <= len(crops.mentions) <= len(whole.mentions)  # the middle is in every crop
    assert torch.equal(crops.features, again.features)
    assert not torch.equal(model.shown[0], model.shown[1])
    both = NamedRegions.joined([whole, crops])
    assert len(both.features) == len(both.mentions) == len(both.rows) == len(both.kinds)
    assert both.rows[: len(whole.rows)] == whole.rows


def test_what_many_captions_call_a_thing_weighs_more_by_the_root():
    torch.manual_seed(0)
    namer = RegionNamer([1], nouns=2, width=7, hidden=8)  # reads 3 + 6 + 7 features
    alike = torch.ones(1024, 16).half()
    mentions = [{0: 9.0}, {1: 1.0}] * 512
    regions = NamedRegions(alike, mentions, [0] * 1024, ["box"] * 1024)
    train_namer(SimpleNamespace(namer=namer), regions, epochs=60, rate=0.05, batch=256)
    with torch.no_grad():
        chances = namer(alike[:1].float()).softmax(-1)[0]
    assert float(chances[0] / chances[1]) == pytest.approx(3.0, rel=0.15)


def test_a_folds_namer_learns_from_the_other_pictures_only():
    torch.manual_seed(0)
    features = torch.randn(4096, 3 * 2 + 6 + 4).half()
    rows = list(range(4096))
    # On each picture of fold 1 what would be noun 0 is noun 1: only who left them out calls it 0.
    mentions = [{int(fold_of(row) == 1): 1.0} for row in rows]
    regions = NamedRegions(features, mentions, rows, ["box"] * 4096)
    left = regions.without_fold(1)
    assert len(left.mentions) == len(left.features) == len(left.kinds) == 4096 * (FOLDS - 1) // FOLDS
    assert 1 not in {fold_of(row) for row in left.rows}
    namer = RegionNamer([2], 2, 4, hidden=16)
    model = SimpleNamespace(namer=namer)
    states = [new_namer(model, regions.without_fold(fold), epochs=4, rate=1e-2)[1] for fold in range(FOLDS)]
    assert set(states[0]) == {"hidden.weight", "hidden.bias", "output.weight", "output.bias"}
    folds = NamerFolds(states)
    shares = [
        folds(features[:64].float(), torch.full((64,), fold)).softmax(-1)[:, 1].mean()
        for fold in range(FOLDS)
    ]
    assert all(shares[1] < shares[fold] / 2 for fold in (0, 2, 3))
