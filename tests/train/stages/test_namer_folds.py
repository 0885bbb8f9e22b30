import torch

from openferret.model.namer import RegionNamer
from openferret.train.stages.namer_folds import FOLDS, NamerFolds, fold_of


def test_each_region_is_named_by_the_namer_of_its_fold():
    torch.manual_seed(0)
    namers = [RegionNamer([4, 5], 7, 6, hidden=8).eval() for _ in range(FOLDS)]
    folds = NamerFolds([one.state_dict() for one in namers])
    features = torch.randn(10, 3 * 9 + 6 + 6)
    fold = torch.tensor([fold_of(row) for row in range(10)])
    assert set(fold.tolist()) == set(range(FOLDS))
    named = folds(features, fold)
    for row, number in enumerate(fold.tolist()):
        torch.testing.assert_close(named[row], namers[number](features[row : row + 1])[0])


def test_folds_are_not_trained():
    namer = RegionNamer([4], 7, 6)
    assert not any(one.requires_grad for one in NamerFolds([namer.state_dict()] * FOLDS).parameters())
