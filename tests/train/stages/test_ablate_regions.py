from __future__ import annotations

import torch

from openferret.train.stages.ablate_regions import parts, train_head
from openferret.train.stages.run_naming import NamedRegions


def test_each_representation_reads_its_own_columns():
    columns = parts([2, 3], 4)
    assert columns["coordinates only"] == [15, 16, 17, 18, 19, 20]
    assert columns["sampler, coordinates"] == [21, 22, 23, 24, 15, 16, 17, 18, 19, 20]
    assert sorted(columns["all of these"]) == list(range(25))


def test_a_head_learns_what_its_columns_tell():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (1600,), generator=generator)
    features = torch.randn(1600, 5, generator=generator)
    features[:, 2] += 4 * labels
    regions = NamedRegions(features.half(), [{int(one): 1.0} for one in labels], [0] * 1600, ["box"] * 1600)

    def right(columns):
        head, scale = train_head(regions, columns, 3, passes=12)
        read = (features[:, columns] - scale.mean) / scale.deviation
        return float((head(read).argmax(-1) == labels).float().mean())

    assert right([0, 1, 2]) > 0.85
    assert right([0, 1]) < 0.5
