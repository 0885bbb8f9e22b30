"""A sampler's blocks in C against the same in PyTorch, and where they are not to be used."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from openferret.model import sampler_native
from openferret.model.point_features import map_features, touched_features
from openferret.model.sampler import SampleGatherPool, SpatialAwareSampler
from openferret.model.sampler_native_block import takes_block
from openferret.processing.geometry import SamplerGeometry, masks_geometry
from openferret.regions import Box, Mask, Point, Scribble, region_mask

SIZES = SamplerGeometry(points=40, anchors=(12, 5), neighbors=(7, 4))
REGIONS = [
    Point(30, 20),
    Box(5, 5, 50, 40),
    Scribble([(2, 2), (60, 10), (20, 45)]),
    Mask(np.eye(48, 64)),
    Box(0, 0, 64, 48),
]
# Cells fewer than anchors are multiplied for both matrices, fewer than points for one, and others for none.
MAPS = {"few cells": (3, 3), "some cells": (5, 6), "many cells": (30, 40)}


@pytest.fixture
def native(monkeypatch):
    """The kernels, for little work too."""
    library = sampler_native.kernels()
    if library is None:
        pytest.skip("no C compiler")
    if not library.openferret_block_is_fast(0):
        pytest.skip("PyTorch's products are used on this processor")
    monkeypatch.setattr(sampler_native, "FEWEST_NUMBERS", 1)


def in_pytorch(sampler, *inputs):
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(sampler_native, "kernels", lambda: None)
        return sampler(*inputs)


def make(shape, regions=REGIONS, channels=128, dtype=torch.float32, sizes=SIZES, **options):
    torch.manual_seed(0)
    sampler = SpatialAwareSampler([channels], sizes.anchors, 64, **options)
    for block in sampler.blocks:  # a normalisation as after training, of both signs
        torch.nn.init.normal_(block.norm.weight)
        torch.nn.init.normal_(block.norm.bias)
    geometry = masks_geometry([region_mask(one, 64, 48) for one in regions], sizes)
    anchors, neighbors = (
        [torch.from_numpy(one) for one in many] for many in (geometry.anchors, geometry.neighbors)
    )
    level = torch.randn(2, channels, *shape).to(dtype)
    picture = torch.arange(len(regions)) % 2
    return sampler.to(dtype), ([level], torch.from_numpy(geometry.points), anchors, neighbors, picture)


def step_of(sampler, inputs):
    levels, points, anchors, neighbors, picture = inputs
    features = touched_features(levels[0], points, picture, sampler.align_corners)
    return sampler.blocks[0].step(features, points, anchors[0], neighbors[0])


@torch.no_grad()
@pytest.mark.parametrize("shape", MAPS.values(), ids=MAPS)
@pytest.mark.parametrize("regions", [REGIONS[1:2], REGIONS[:3], REGIONS])
@pytest.mark.parametrize("options", [{}, {"pool": "mean", "align_corners": True}, {"transposed": True}])
def test_all_in_c_is_the_same_as_in_pytorch(native, shape, regions, options):
    sampler, inputs = make(shape, regions, **options)
    assert step_of(sampler, inputs) is not None
    torch.testing.assert_close(sampler(*inputs), in_pytorch(sampler, *inputs), rtol=0, atol=1e-5)


@torch.no_grad()
def test_several_maps_are_summed(native):
    torch.manual_seed(0)
    sampler, (_, *others) = make((3, 3))
    sampler = SpatialAwareSampler([6, 10], SIZES.anchors, 64, width=64)
    inputs = ([torch.randn(2, 6, 4, 5), torch.randn(2, 10, 9, 9)], *others)
    torch.testing.assert_close(sampler(*inputs), in_pytorch(sampler, *inputs), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("shape", MAPS.values(), ids=MAPS)
def test_bfloat16_is_no_farther_from_float_than_in_pytorch(native, shape):
    exact, inputs = make(shape)
    rounded, halved = make(shape, dtype=torch.bfloat16)
    expected = exact(*inputs)

    def distance(found):
        assert found.dtype == torch.bfloat16
        return 1 - functional.cosine_similarity(found.float(), expected, dim=-1).min()

    assert distance(rounded(*halved)) < 1.2 * distance(in_pytorch(rounded, *halved)) + 1e-4


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_regions_that_do_not_fit_in_the_cache_together(native, dtype):
    sizes = SamplerGeometry(points=512, anchors=(64, 16), neighbors=(24, 24))
    for shape in ((8, 8), (60, 60)):
        sampler, inputs = make(shape, REGIONS * 3, channels=512, dtype=dtype, sizes=sizes)
        assert 512 * 512 * len(REGIONS) * 3 > 2**21  # MOVED_NUMBERS in sampler_block.h
        near = 1e-5 if dtype == torch.float32 else 5e-2
        expected = in_pytorch(sampler, *inputs)
        torch.testing.assert_close(sampler(*inputs), expected, rtol=0, atol=near)


@torch.no_grad()
def test_changed_weights_are_packed_anew(native):
    sampler, inputs = make((5, 6))
    for change in (
        lambda block: block.norm.weight.mul_(2),
        lambda block: block.difference.weight.mul_(2),
        lambda block: setattr(
            block.aggregate, "weight", torch.nn.Parameter(torch.randn_like(block.aggregate.weight))
        ),
    ):
        before = sampler(*inputs)
        change(sampler.blocks[0])
        found = sampler(*inputs)
        assert not torch.allclose(found, before, atol=1e-3)
        torch.testing.assert_close(found, in_pytorch(sampler, *inputs), rtol=1e-5, atol=1e-4)
    copied = copy.deepcopy(sampler)
    assert torch.equal(copied(*inputs), sampler(*inputs))


@torch.no_grad()
def test_inputs_that_do_not_follow_each_other_in_memory(native):
    sampler, (levels, points, anchors, neighbors, picture) = make((5, 6))
    expected = sampler(levels, points, anchors, neighbors, picture)

    def spread(one):
        return one.repeat_interleave(2, dim=-1)[..., ::2]

    found = sampler(
        [spread(levels[0])],
        spread(points),
        [spread(one) for one in anchors],
        [spread(one) for one in neighbors],
        spread(picture),
    )
    assert torch.equal(found, expected)


@torch.no_grad()
@pytest.mark.parametrize("where", ["anchors", "neighbors"])
@pytest.mark.parametrize("wrong", [-1, 40])
def test_indices_of_no_point_are_refused(native, where, wrong):
    sampler, inputs = make((5, 6))
    inputs[2 if where == "anchors" else 3][0].view(-1)[7] = wrong
    with pytest.raises(IndexError, match="points that are there"):
        sampler(*inputs)


@torch.no_grad()
@pytest.mark.parametrize("wrong", [-1, 2])
def test_a_region_on_no_picture_is_refused(native, wrong):
    sampler, inputs = make((5, 6))
    inputs[-1][3] = wrong
    with pytest.raises(IndexError, match=r"pictures must be in 0\.\.1"):
        sampler(*inputs)


@torch.no_grad()
@pytest.mark.parametrize("pool", ["max", "mean"])
def test_not_a_number_is_not_lost(native, pool):
    sampler, inputs = make((30, 40), pool=pool)
    inputs[0][0][0, 3, 8:20, 8:20] = torch.nan  # of the first picture, which not all regions are on
    found, expected = sampler(*inputs), in_pytorch(sampler, *inputs)
    assert torch.equal(found.isnan(), expected.isnan())
    assert found.isnan().any()
    assert not found.isnan().all()


@torch.no_grad()
def test_somebody_who_watches_a_module_sees_it_called(native):
    sampler, inputs = make((5, 6))
    expected, seen = sampler(*inputs), []
    for watched in (*sampler.blocks, sampler.flatten, sampler.output):
        hook = watched.register_forward_hook(lambda module, *_: seen.append(module))
        torch.testing.assert_close(sampler(*inputs), expected)
        assert seen.pop() is watched
        hook.remove()


def test_gradients_other_types_and_widths_are_left_to_pytorch(native):
    sampler, inputs = make((5, 6))
    assert step_of(sampler, inputs) is None
    with torch.no_grad():
        assert step_of(sampler, inputs) is not None
        with torch.autocast("cpu", torch.bfloat16):
            assert step_of(sampler, inputs) is None
        odd, given = make((5, 6), channels=96)
        assert step_of(odd, given) is None
        sampler.double()
        double = [[inputs[0][0].double()], *inputs[1:]]
        assert step_of(sampler, double) is None
    with torch.inference_mode():
        made, given = make((5, 6))
        assert step_of(made, given) is None


@torch.no_grad()
def test_a_few_numbers_are_left_to_pytorch():
    table, points = torch.zeros(10, 64), torch.zeros(1, 10, 2)
    anchors, neighbors = torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2, 3, dtype=torch.long)
    block = SampleGatherPool(64, "max")
    assert not takes_block(table, None, points, anchors, neighbors, *block.parameters())


@torch.no_grad()
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (40, 3)])
def test_the_cells_around_points(native, aligned, shape):
    torch.manual_seed(0)
    level, points = torch.randn(2, 8, *shape), torch.rand(3, 50, 2)
    points[0, :4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.5]])
    picture = torch.tensor([1, 0, 1])
    expected = map_features(level, points, picture, aligned)
    found = touched_features(level, points, picture, aligned)
    assert len(found.table) <= len(expected.table)
    torch.testing.assert_close(found.weights, expected.weights)
    torch.testing.assert_close(found.table[found.rows], expected.table[expected.rows])
    near = touched_features(level, points[1:2] / 8, picture[1:2], aligned)
    assert len(near.table) < len(expected.table) or shape == (1, 1)
