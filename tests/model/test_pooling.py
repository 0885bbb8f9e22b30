import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from openferret.model import pooling
from openferret.model.pooling import pool_pairs

POINTS, ANCHORS, NEAR, CHANNELS = 40, 11, 6, 16


@pytest.fixture(autouse=True, params=[1, 4 * NEAR * CHANNELS, 2**18], ids=["one", "some", "all"])
def at_once(request, monkeypatch):
    """So many numbers at once: one anchor at a time, four (which eleven are no multiple of), all."""
    monkeypatch.setitem(pooling.CHUNK_NUMBERS, "cpu", request.param)
    return request.param


def inputs(anchors=ANCHORS):
    torch.manual_seed(0)
    shapes = ((POINTS, CHANNELS), (anchors, CHANNELS), (CHANNELS,), (CHANNELS,))
    points, middles, weight, bias = (torch.randn(shape, dtype=torch.double) for shape in shapes)
    near = torch.randint(0, POINTS, (anchors, NEAR))
    near[:, -1] = near[:, 0]  # the same point twice ties for the largest
    return points, middles, near, weight, bias


def plain(points, middles, near, weight, bias, epsilon, pool):
    positive = functional.relu(points[near] + middles[:, None])
    normed = functional.layer_norm(positive, (CHANNELS,), weight, bias, epsilon)
    return normed.amax(1) if pool == "max" else normed.mean(1)


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_values_and_gradients_are_those_of_the_plain_form(pool):
    given = inputs()
    learned = [one.requires_grad_() for one in given if one.is_floating_point()]
    expected, found = (form(*given, 1e-5, pool) for form in (plain, pool_pairs))
    torch.testing.assert_close(found, expected)
    wanted = torch.randn_like(expected)
    gradients = (torch.autograd.grad(one, learned, wanted) for one in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        assert torch.equal(pool_pairs(*given, 1e-5, pool), found)


def test_inputs_stay_as_they_are():
    given = inputs()
    before = [one.clone() for one in given]
    pool_pairs(*given, 1e-5, "max")
    assert all(torch.equal(one, other) for one, other in zip(given, before, strict=True))


def test_no_anchor_gives_nothing():
    given = [one.requires_grad_() if one.is_floating_point() else one for one in inputs(anchors=0)]
    pooled = pool_pairs(*given, 1e-5, "max")
    assert pooled.shape == (0, CHANNELS)
    pooled.sum().backward()
    assert not given[0].grad.any()


class Largest(TorchDispatchMode):
    """The largest number of elements that an operation returned."""

    size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if isinstance(one, torch.Tensor):
                self.size = max(self.size, one.numel())
        return result


def test_pairs_of_all_anchors_are_never_there_at_once(at_once):
    points, *others = inputs()
    with Largest() as seen:
        pool_pairs(points.requires_grad_(), *others, 1e-5, "max").sum().backward()
    pairs = ANCHORS * NEAR * CHANNELS
    assert seen.size == (pairs if at_once > pairs else POINTS * CHANNELS)
