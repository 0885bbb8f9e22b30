from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional

from openferret.model.point_features import read_map
from openferret.model.sampler import SampleGatherPool, SpatialAwareSampler, gather_points
from openferret.processing.geometry import SamplerGeometry, masks_geometry
from openferret.regions import Box, Mask, Point, Polygon, Scribble, region_mask

SIZES = SamplerGeometry(points=32, anchors=(8, 4), neighbors=(6, 4))
CHANNELS = 6
REGIONS = [
    Point(30, 20),
    Box(5, 5, 50, 40),
    Scribble([(2, 2), (60, 10), (20, 45)]),
    Polygon([(0, 0), (63, 0), (30, 47)]),
    Mask(np.eye(48, 64)),
    Box(0, 0, 64, 48),
    Box(10, 10, 11, 11),
]


def make(seed: int = 0, **options: object) -> SpatialAwareSampler:
    torch.manual_seed(seed)
    return SpatialAwareSampler([CHANNELS], SIZES.anchors, 10, **options)


def geometry(masks: list[np.ndarray]) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    made = masks_geometry(masks, SIZES)
    anchors, neighbors = ([torch.from_numpy(one) for one in many] for many in (made.anchors, made.neighbors))
    return torch.from_numpy(made.points), anchors, neighbors


def masks_of(regions: list[object]) -> list[np.ndarray]:
    return [region_mask(region, 64, 48) for region in regions]


def pairwise_block(
    block: SampleGatherPool,
    features: torch.Tensor,
    points: torch.Tensor,
    anchors: torch.Tensor,
    neighbors: torch.Tensor,
) -> torch.Tensor:
    """The paper's formulation, pair by pair, without the linear shortcut."""
    joined = torch.cat([features, points], -1)
    centre = gather_points(joined, anchors)[:, :, None].expand(-1, -1, neighbors.shape[-1], -1)
    difference = block.difference(gather_points(joined, neighbors) - centre)
    mixed = block.norm(functional.relu(block.aggregate(torch.cat([difference, centre], -1))))
    return mixed.amax(2) if block.pool == "max" else mixed.mean(2)


def plain_sampler(
    sampler: SpatialAwareSampler,
    levels: list[torch.Tensor],
    points: torch.Tensor,
    anchors: list[torch.Tensor],
    neighbors: list[torch.Tensor],
    picture: torch.Tensor,
) -> torch.Tensor:
    """The whole sampler in the order of the paper: whole maps projected, read, and pooled pair by pair."""
    places = points.flip(-1) if sampler.transposed else points
    features = torch.zeros(())
    for project, level in zip(sampler.projections, levels, strict=True):
        grid = (2 * places - 1)[:, None].to(level.dtype)
        options = {"padding_mode": "border", "align_corners": sampler.align_corners}
        features = features + functional.grid_sample(project(level)[picture], grid, **options)[:, :, 0]
    features = features.transpose(1, 2)
    for block, chosen, near in zip(sampler.blocks, anchors, neighbors, strict=True):
        features = pairwise_block(block, features, points.to(features.dtype), chosen, near)
        points = gather_points(points, chosen)
    return sampler.output(sampler.flatten(features.flatten(1)))


# Cells fewer than points are projected before they are read, and others after; so are several maps together.
KINDS = {
    "few cells": ({}, [(3, 4)]),
    "many cells": ({}, [(40, 60)]),
    "several maps": ({"width": 8, "align_corners": True}, [(3, 4), (20, 30)]),
    "mean, transposed": ({"pool": "mean", "transposed": True}, [(6, 6)]),
}


def kind(name: str, regions: list[object] = REGIONS) -> tuple[SpatialAwareSampler, list[object]]:
    options, shapes = KINDS[name]
    torch.manual_seed(1)
    sampler = SpatialAwareSampler([CHANNELS] * len(shapes), SIZES.anchors, 10, **options)
    for block in sampler.blocks:  # a normalisation as after training, of both signs
        torch.nn.init.normal_(block.norm.weight)
        torch.nn.init.normal_(block.norm.bias)
    levels = [torch.randn(2, CHANNELS, *shape, requires_grad=True) for shape in shapes]
    return sampler, [levels, *geometry(masks_of(regions)), torch.arange(len(regions)) % 2]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("regions", [REGIONS[:1], REGIONS])
def test_the_sampler_is_the_plain_one(name, regions):
    sampler, inputs = kind(name, regions)
    expected = plain_sampler(sampler, *inputs)
    torch.testing.assert_close(sampler(*inputs), expected, rtol=0, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(sampler(*inputs), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_gradients_are_those_of_the_plain_one(name):
    sampler, inputs = kind(name)
    receivers = [*inputs[0], *sampler.parameters()]
    expected = torch.autograd.grad(plain_sampler(sampler, *inputs).square().sum(), receivers)
    found = torch.autograd.grad(sampler(*inputs).square().sum(), receivers)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())


@torch.no_grad()
def test_changed_weights_are_multiplied_anew():
    sampler, inputs = kind("few cells")
    block = sampler.blocks[0]
    state = copy.deepcopy(sampler.state_dict())

    def check():
        torch.testing.assert_close(sampler(*inputs), plain_sampler(sampler, *inputs), rtol=0, atol=1e-5)

    check()
    block.difference.weight.mul_(2)
    check()
    block.aggregate.weight.data = torch.randn_like(block.aggregate.weight)
    check()
    block.difference.weight = torch.nn.Parameter(torch.randn_like(block.difference.weight))
    check()
    sampler.load_state_dict(state)
    check()
    with torch.inference_mode():
        check()
    sampler.double().float()
    check()


@torch.no_grad()
def test_a_copy_and_an_autocast_model_multiply_their_own():
    sampler, inputs = kind("few cells")
    with torch.autocast("cpu", torch.bfloat16):
        rounded = sampler(*inputs)
    exact = sampler(*inputs)
    assert functional.cosine_similarity(exact, rounded.float(), dim=-1).min() > 0.98
    torch.testing.assert_close(exact, plain_sampler(sampler, *inputs), rtol=0, atol=1e-5)
    for other in (copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        assert torch.equal(other(*inputs), exact)


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_the_linear_form_is_the_pairwise_one(pool):
    sampler = make(pool=pool)
    points, anchors, neighbors = geometry(masks_of(REGIONS))
    features = torch.randn(len(REGIONS), SIZES.points, CHANNELS)
    block = sampler.blocks[0]
    expected = pairwise_block(block, features, points, anchors[0], neighbors[0])
    found, kept = block(features, points, anchors[0], neighbors[0])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(kept, gather_points(points, anchors[0]))


def test_read_map_is_grid_sample():
    level, points = torch.randn(2, 3, 5, 7), torch.rand(4, 9, 2)
    picture = torch.tensor([0, 1, 1, 0])
    grid = (2 * points - 1)[:, None]
    for aligned in (True, False):
        padding = "zeros" if aligned else "border"
        expected = functional.grid_sample(
            level[picture], grid, mode="bilinear", padding_mode=padding, align_corners=aligned
        )
        read = read_map(level, points, picture, aligned)
        torch.testing.assert_close(read, expected[:, :, 0].transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_a_region_at_the_top_right_reads_the_top_right():
    # Channels 0 and 1 of the map are its own x and y.
    y, x = torch.meshgrid((torch.arange(24) + 0.5) / 24, (torch.arange(24) + 0.5) / 24, indexing="ij")
    level = torch.stack([x, y])[None]
    points, _, _ = geometry([region_mask(Box(560, 0, 640, 60), 640, 480)])
    read = read_map(level, points, torch.zeros(1, dtype=torch.long), align_corners=False)[0]
    assert read[:, 0].min() > 0.8
    assert read[:, 1].max() < 0.2
    flipped = read_map(level, points.flip(-1), torch.zeros(1, dtype=torch.long), align_corners=False)[0]
    assert flipped[:, 0].max() < 0.2


def test_only_the_place_of_a_region_changes_its_vector():
    sampler = make()
    level = torch.randn(1, CHANNELS, 12, 16)
    points, anchors, neighbors = geometry([region_mask(Box(48, 0, 64, 12), 64, 48)])
    picture = torch.zeros(1, dtype=torch.long)
    before = sampler([level], points, anchors, neighbors, picture)
    elsewhere, there = level.clone(), level.clone()
    elsewhere[..., 6:, :8] += 5
    there[..., :2, 13:] += 5
    assert torch.equal(before, sampler([elsewhere], points, anchors, neighbors, picture))
    assert not torch.allclose(before, sampler([there], points, anchors, neighbors, picture), atol=1e-3)


def test_transposed_sampling_reads_the_mirrored_map():
    plain, transposed = make(), make(transposed=True)
    level = torch.randn(1, CHANNELS, 12, 12)
    points, anchors, neighbors = geometry([region_mask(Box(48, 0, 64, 12), 64, 64)])
    picture = torch.zeros(1, dtype=torch.long)
    mirrored = plain([level.transpose(2, 3)], points, anchors, neighbors, picture)
    torch.testing.assert_close(transposed([level], points, anchors, neighbors, picture), mirrored)


def test_regions_of_every_kind_are_the_same_alone_and_together():
    sampler = make(width=5).eval()
    levels = [torch.randn(2, CHANNELS, 12, 16)]
    points, anchors, neighbors = geometry(masks_of(REGIONS))
    picture = torch.arange(len(REGIONS)) % 2
    together = sampler(levels, points, anchors, neighbors, picture)
    assert together.shape == (len(REGIONS), 10)
    assert torch.isfinite(together).all()
    for index in range(len(REGIONS)):
        one = slice(index, index + 1)
        alone = sampler(
            levels, points[one], [a[one] for a in anchors], [n[one] for n in neighbors], picture[one]
        )
        torch.testing.assert_close(alone, together[one], rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_parameter_and_the_maps():
    torch.manual_seed(0)
    sampler = SpatialAwareSampler([4, 6], SIZES.anchors, 10, width=8)
    levels = [torch.randn(2, 4, 8, 8, requires_grad=True), torch.randn(2, 6, 4, 4, requires_grad=True)]
    points, anchors, neighbors = geometry(masks_of(REGIONS))
    sampler(levels, points, anchors, neighbors, torch.arange(len(REGIONS)) % 2).square().sum().backward()
    for tensor in [*levels, *sampler.parameters()]:
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0


def test_no_region_gives_no_vector():
    points, anchors, neighbors = geometry([])
    sampler = make()
    vectors = sampler(
        [torch.randn(1, CHANNELS, 4, 4)], points, anchors, neighbors, torch.zeros(0, dtype=torch.long)
    )
    assert vectors.shape == (0, 10)


def test_bfloat16_stays_near_float32():
    sampler = make()
    points, anchors, neighbors = geometry(masks_of(REGIONS))
    level, picture = torch.randn(1, CHANNELS, 12, 16), torch.zeros(len(REGIONS), dtype=torch.long)
    exact = sampler([level], points, anchors, neighbors, picture)
    rounded = sampler.bfloat16()([level.bfloat16()], points, anchors, neighbors, picture)
    assert rounded.dtype == torch.bfloat16
    assert functional.cosine_similarity(exact, rounded.float(), dim=-1).min() > 0.98


def test_maps_without_a_common_width_and_unknown_pools_are_refused():
    with pytest.raises(ValueError, match="common width"):
        SpatialAwareSampler([4, 6], SIZES.anchors, 10)
    with pytest.raises(ValueError, match="pools by"):
        make(pool="sum")
