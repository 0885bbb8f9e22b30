from __future__ import annotations

import pytest
import torch

from openferret.model.vision import (
    EfficientNetLiteConfig,
    EfficientNetLiteModel,
    EfficientNetLiteTrunk,
    SameConvolution,
    cell_centres,
    fold_batch_norm,
    fourier_features,
)

SMALL = EfficientNetLiteConfig(
    image_size=64, stage_channels=(4, 6, 8, 10, 12, 14, 16), stage_blocks=(1, 2, 1, 1, 1, 1, 1), neck_width=16
)


def test_maps_lie_at_strides_8_16_and_16_and_do_not_depend_on_the_batch():
    model = EfficientNetLiteModel(SMALL).eval()
    pixels = torch.randn(2, 3, 64, 64)
    output = model(pixels)
    assert [tuple(one.shape) for one in output.feature_maps] == [(2, 8, 8, 8), (2, 12, 4, 4), (2, 16, 4, 4)]
    assert tuple(one.shape[1] for one in output.feature_maps) == SMALL.map_channels
    assert output.last_hidden_state.shape == (2, 16, 16)
    alone = model(pixels[1:]).last_hidden_state
    torch.testing.assert_close(alone[0], output.last_hidden_state[1], rtol=1e-4, atol=1e-5)


def test_channels_last_and_activations_in_place_change_nothing():
    torch.manual_seed(0)
    tower = EfficientNetLiteModel(EfficientNetLiteConfig(image_size=64)).eval()
    pixels = torch.randn(2, 3, 64, 64)
    with_gradient = tower(pixels)
    tower.requires_grad_(False).to(memory_format=torch.channels_last)
    without = tower(pixels)
    for ours, theirs in zip(without.feature_maps, with_gradient.feature_maps, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.detach().abs().max()))


@pytest.mark.parametrize("alike", [True, False])
def test_trunks_that_begin_alike_begin_once(alike, monkeypatch):
    torch.manual_seed(0)
    tower = EfficientNetLiteModel(EfficientNetLiteConfig(image_size=64, published_trunk=True)).eval()
    if alike:
        tower.published.stem.load_state_dict(tower.trunk.stem.state_dict())
        tower.published.stages[:3].load_state_dict(tower.trunk.stages[:3].state_dict())
    began = []
    begin = EfficientNetLiteTrunk.begin
    monkeypatch.setattr(
        EfficientNetLiteTrunk, "begin", lambda trunk, pixels: began.append(trunk) or begin(trunk, pixels)
    )
    pixels = torch.randn(1, 3, 64, 64)
    output = tower(pixels)
    assert began == ([tower.trunk] if alike else [tower.trunk, tower.published])
    for ours, theirs in zip(output.feature_maps[2:4], tower.published(pixels)[1:], strict=True):
        assert torch.equal(ours, theirs)
    output.feature_maps[0].sum().backward()
    assert tower.trunk.stem.weight.grad is not None


def test_same_padding_puts_the_odd_pixel_at_the_bottom_right():
    layer = SameConvolution(1, 1, 3, stride=2)
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    summed = layer(torch.ones(1, 1, 4, 4))[0, 0]
    assert summed.tolist() == [[9, 6], [6, 4]]


def test_cell_centres_are_row_major_and_half_a_cell_from_the_border():
    torch.testing.assert_close(cell_centres(1, 2), torch.tensor([[0.25, 0.5], [0.75, 0.5]]))
    assert cell_centres(2, 1)[1].tolist() == [0.5, 0.75]


def test_fourier_features_tell_neighbouring_bins_apart():
    features = fourier_features(torch.tensor([[0.5], [0.501]]), 32)
    assert features.shape == (2, 32)
    assert (features[0] - features[1]).abs().max() > 0.5


@pytest.mark.parametrize("index", [0, 1])
def test_folding_batch_norm_changes_nothing(index):
    torch.manual_seed(index)
    published = published_state(SMALL)
    trunk = EfficientNetLiteTrunk(SMALL)
    trunk.load_state_dict(fold_batch_norm(published, SMALL))
    pixels = torch.randn(1, 3, 32, 32)
    stem = torch.nn.functional.conv2d(
        torch.nn.functional.pad(pixels, (0, 1, 0, 1)), published["_conv_stem.weight"], stride=2
    )
    normed = torch.nn.functional.batch_norm(
        stem,
        published["_bn0.running_mean"],
        published["_bn0.running_var"],
        published["_bn0.weight"],
        published["_bn0.bias"],
        eps=1e-3,
    )
    torch.testing.assert_close(trunk.stem(pixels), normed, rtol=1e-4, atol=1e-4)


def published_state(config: EfficientNetLiteConfig) -> dict[str, torch.Tensor]:
    """Random weights under the published names, from the shapes of the folded ones."""
    trunk = EfficientNetLiteTrunk(config).state_dict()
    names = {"stem": ("_conv_stem", "_bn0")}
    index = 0
    for stage, blocks in enumerate(config.stage_blocks):
        for block in range(blocks):
            pairs = [("depthwise", "_depthwise_conv", "_bn1"), ("project", "_project_conv", "_bn2")]
            if stage:
                pairs.append(("expand", "_expand_conv", "_bn0"))
            for own, convolution, norm in pairs:
                names[f"stages.{stage}.{block}.{own}"] = (
                    f"_blocks.{index}.{convolution}",
                    f"_blocks.{index}.{norm}",
                )
            index += 1
    state = {}
    for own, (convolution, norm) in names.items():
        weight = trunk[f"{own}.weight"]
        state[f"{convolution}.weight"] = torch.randn_like(weight)
        state[f"{norm}.weight"], state[f"{norm}.bias"] = (
            torch.rand(len(weight)) + 0.5,
            torch.randn(len(weight)),
        )
        state[f"{norm}.running_mean"], state[f"{norm}.running_var"] = (
            torch.randn(len(weight)),
            torch.rand(len(weight)) + 0.5,
        )
    return state
