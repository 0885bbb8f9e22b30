from __future__ import annotations

import torch

from openferret.model.namer import namer_features


def test_in_half_precision_a_region_is_read_where_it_lies():
    # Numbers of eight bits place a point on one of these 40 cells no better than to a quarter of a cell.
    torch.manual_seed(0)
    maps = [torch.randn(1, 4, 40, 40), torch.randn(1, 6, 20, 20)]
    points = 0.8 + 0.2 * torch.rand(3, 128, 2)
    picture, vectors = torch.zeros(3, dtype=torch.long), torch.randn(3, 5)
    expected = namer_features(maps, points, picture, vectors)
    halves = [one.bfloat16() for one in maps]
    features = namer_features(halves, points, picture, vectors.bfloat16())
    assert features.dtype == torch.bfloat16
    torch.testing.assert_close(features.float(), expected, rtol=0.02, atol=0.02)
