"""The region sampler alone against the reference, with its points and indices."""

import numpy as np
import pytest
import torch

from openferret.convert.names import our_name, to_our_shape
from openferret.model.sampler import SpatialAwareSampler

NAMES = [
    "tiny_max",
    "tiny_mean",
    "real_pts_box",
    "real_pts_free",
    "edge_one_pixel",
    "edge_exact_512",
    "bf16_box",
]


def build(config, arrays, prefix="sd/"):
    sampler = SpatialAwareSampler(
        [config["cin"]],
        config["sub"],
        config["cout"],
        pool=config["pool"],
        align_corners=True,
        transposed=True,
    )
    state = {}
    for name, array in arrays.items():
        if name.startswith(prefix):
            ours = our_name(f"model.region_geo_sampler.{name.removeprefix(prefix)}")
            state[ours.removeprefix("model.sampler.")] = to_our_shape(ours, torch.from_numpy(array))
    sampler.load_state_dict(state)
    return sampler


@pytest.mark.parametrize("name", NAMES)
def test_outputs(parity, read_npz, name):
    arrays, meta = read_npz(parity / f"sampler/{name}.npz")
    config, counts = meta["config"], meta["n_regions"]
    sampler = build(config, arrays)
    side = config["grid"]
    maps = torch.from_numpy(arrays["feature_map"]).transpose(1, 2).unflatten(2, (side, side))
    points = torch.from_numpy(np.stack([arrays[f"sampled_points/{k}"] for k in range(sum(counts))]))
    halved = meta["dtype"] == "torch.bfloat16"
    if halved:
        sampler, maps, points = sampler.bfloat16(), maps.bfloat16(), points.bfloat16().float()
    picture = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    with torch.no_grad():
        found = sampler(
            [maps],
            points,
            [torch.from_numpy(arrays[f"fps_idx/{k}"]) for k in range(2)],
            [torch.from_numpy(arrays[f"knn_idx/{k}"]) for k in range(2)],
            picture,
        )
    expected = np.concatenate(
        [arrays[f"output/{image}"] for image, count in enumerate(counts) if count], axis=0
    )
    np.testing.assert_allclose(found.float().numpy(), expected, atol=2e-2 if halved else 1e-5, rtol=0)


def test_pictures_without_regions_give_no_vectors(parity, read_npz):
    arrays, meta = read_npz(parity / "sampler/edge_no_regions.npz")
    sampler = build(meta["config"], arrays)
    maps = torch.from_numpy(arrays["feature_map"]).transpose(1, 2).unflatten(2, (24, 24))
    nothing = torch.empty(0, dtype=torch.long)
    found = sampler(
        [maps],
        torch.empty(0, 512, 2),
        [nothing.view(0, 128), nothing.view(0, 32)],
        [nothing.view(0, 128, 24), nothing.view(0, 32, 24)],
        nothing,
    )
    assert found.shape == (0, meta["config"]["cout"])


@pytest.mark.parametrize("name", [one for one in NAMES if one != "bf16_box"])
def test_recorded_points_are_pixels_of_the_mask_as_we_read_them(parity, read_npz, name):
    """x / W and y / H of the mask's pixels, so that our own draw is one the reference could have made."""
    from openferret.processing.reference import reference_points

    arrays, _ = read_npz(parity / f"sampler/{name}.npz")
    masks = sorted(key for key in arrays if key.startswith("mask/"))
    for region, key in enumerate(masks):
        inside, recorded = arrays[key].astype(bool), arrays[f"sampled_points/{region}"]
        every = {tuple(one) for one in reference_points(inside.T, int(inside.sum())).tolist()}
        assert {tuple(one) for one in recorded.tolist()} <= every
        if inside.sum() <= len(recorded):
            ours = reference_points(inside.T, len(recorded))
            np.testing.assert_array_equal(ours[: inside.sum()], recorded[: inside.sum()])
