from __future__ import annotations

import torch
from torch import nn

from openferret.train.stages.run_naming import Scale


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
