"""The C of the sampler against the same in PyTorch, and where it is not to be used."""

import subprocess

import pytest
import torch
from torch.nn import functional

from openferret import compiling
from openferret.model import pooling, sampler_native
from openferret.model.pooling import pool_pairs
from openferret.model.sampler import FewRowsLinear

POINTS, ANCHORS, NEAR = 90, 13, 9


@pytest.fixture
def library():
    if sampler_native.kernels() is None:
        pytest.skip("no C compiler")


def inputs(channels=1024, anchors=ANCHORS):
    torch.manual_seed(0)
    points, middles = torch.randn(POINTS, channels), torch.randn(anchors, channels)
    near = torch.randint(0, POINTS, (anchors, NEAR))
    return points, middles, near, torch.randn(channels), torch.randn(channels)


def plain(points, middles, near, weight, bias, epsilon, pool):
    normed = functional.layer_norm(
        functional.relu(points[near] + middles[:, None]), weight.shape, weight, bias, epsilon
    )
    return normed.amax(1) if pool == "max" else normed.mean(1)


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize("threads", [1, 3, 200])
def test_pairs_are_pooled_as_by_pytorch(library, monkeypatch, pool, threads):
    monkeypatch.setattr(sampler_native, "threads_for", lambda _: threads)
    given = inputs()
    assert sampler_native.takes_pairs(*given)
    found = sampler_native.pool_pairs(*given, 1e-5, pool)
    torch.testing.assert_close(found, plain(*given, 1e-5, pool), atol=1e-5, rtol=0)


def test_large_sums_that_hardly_differ_are_normalised_exactly(library):
    points, middles, *others = inputs()
    found = sampler_native.pool_pairs(points, middles + 1000, *others, 1e-5, "max")
    # In double: PyTorch's own fp32 is as far from it.
    exact = plain(
        *(one.double() if one.is_floating_point() else one for one in (points, middles + 1000, *others)),
        1e-5,
        "max",
    )
    torch.testing.assert_close(found.double(), exact, atol=1e-3, rtol=0)


def test_not_a_number_is_not_lost(library):
    points, *others = inputs()
    points[others[1][4, 2], 5] = torch.nan
    found = sampler_native.pool_pairs(points, *others, 1e-5, "max")
    assert torch.equal(found.isnan(), plain(points, *others, 1e-5, "max").isnan())
    assert found.isnan().any()


@pytest.mark.parametrize("wrong", [-1, POINTS])
def test_neighbours_that_are_no_points_are_refused(library, wrong):
    points, middles, near, *affine = inputs()
    near[2, 3] = wrong
    with pytest.raises(IndexError, match=r"in 0\.\.89"):
        sampler_native.pool_pairs(points, middles, near, *affine, 1e-5, "max")


def test_rows_that_do_not_follow_each_other_in_memory(library):
    _, middles, near, *affine = inputs()
    strided = torch.randn(1024, POINTS).T
    spread = near.repeat_interleave(2, dim=1)[:, ::2]
    torch.testing.assert_close(
        sampler_native.pool_pairs(strided, middles, spread, *affine, 1e-5, "max"),
        plain(strided, middles, near, *affine, 1e-5, "max"),
        atol=1e-5,
        rtol=0,
    )


@pytest.mark.parametrize("channels", [1024 + 8, 8192 + 16])
def test_other_widths_are_left_to_pytorch(channels):
    given = inputs(channels, anchors=4)
    assert not sampler_native.takes_pairs(*given)
    with torch.no_grad():
        torch.testing.assert_close(pool_pairs(*given, 1e-5, "max"), plain(*given, 1e-5, "max"))


def test_little_work_and_other_numbers_are_left_to_pytorch():
    given = inputs()
    assert not sampler_native.takes_pairs(*inputs(channels=16))
    assert not sampler_native.takes_pairs(
        *(one.double() if one.is_floating_point() else one for one in given)
    )
    assert not sampler_native.takes_pairs(*(one.to("meta") for one in given))


def test_without_a_compiler_the_same_comes_out(monkeypatch):
    given = inputs()
    with torch.no_grad():
        expected = pool_pairs(*given, 1e-5, "max")

        def absent(*_):
            raise compiling.NoLibraryError("there is no C compiler")

        monkeypatch.setattr(sampler_native, "compiled", absent)
        sampler_native.kernels.cache_clear()
        try:
            assert not sampler_native.takes_pairs(*given)
            torch.testing.assert_close(pool_pairs(*given, 1e-5, "max"), expected, atol=1e-5, rtol=0)
        finally:
            sampler_native.kernels.cache_clear()


def test_gradients_do_not_care_who_pooled(library):
    given = inputs()
    learned = [one.requires_grad_() for one in given if one.is_floating_point()]
    expected, found = plain(*given, 1e-5, "max"), pooling.pool_pairs(*given, 1e-5, "max")
    wanted = torch.randn_like(expected)
    gradients = (torch.autograd.grad(one, learned, wanted) for one in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_points_are_read_between_rows(library):
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(40, 64, generator=generator)
    rows = torch.randint(0, 40, (500, 4), generator=generator)
    weights = torch.rand(500, 4, generator=generator)
    expected = functional.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")
    assert not sampler_native.takes_table(table, rows, weights)  # a gradient may be wanted
    with torch.no_grad():
        assert sampler_native.takes_table(table, rows, weights)
        assert not sampler_native.takes_table(table.double(), rows, weights)
        assert not sampler_native.takes_table(table[:, :60], rows, weights)
        torch.testing.assert_close(sampler_native.read_table(table, rows, weights), expected)
        turned = table.T.contiguous().T
        torch.testing.assert_close(sampler_native.read_table(turned, rows, weights), expected)
        for wrong in (-1, 40):
            with pytest.raises(IndexError, match=r"0\.\.39"):
                sampler_native.read_table(table, rows.index_fill(0, torch.tensor([7]), wrong), weights)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_few_rows(library, count, dtype, near):
    torch.manual_seed(0)
    layer = FewRowsLinear(512, 132).to(dtype)
    rows = torch.randn(count, 512).to(dtype)
    expected = functional.linear(rows.float(), layer.weight.float(), layer.bias.float())
    with torch.no_grad():
        assert sampler_native.takes_rows(rows, layer.weight, layer.bias) == (count < 5)
        found = layer(rows)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=near, rtol=near)
    assert not sampler_native.takes_rows(rows, layer.weight, layer.bias)  # a gradient may be wanted
    torch.testing.assert_close(layer(rows), found, atol=2 * near, rtol=2 * near)


def test_a_compiler_that_fails_or_hangs_is_only_said(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENFERRET_CACHE", str(tmp_path))
    monkeypatch.setattr(compiling, "_compiler", lambda: "/bin/false")
    with pytest.raises(compiling.NoLibraryError, match="false failed"):
        compiling.compiled("openferret.model", *sampler_native.SOURCES)

    def hangs(*_, **__):
        raise subprocess.TimeoutExpired("cc", 1)

    monkeypatch.setattr(compiling.subprocess, "run", hangs)
    with pytest.raises(compiling.NoLibraryError, match="could not be compiled"):
        compiling.compiled("openferret.model", *sampler_native.SOURCES)
    assert not list(tmp_path.rglob("*.so"))


def test_a_cache_that_cannot_be_written_and_a_torn_library_are_only_said(library, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("OPENFERRET_CACHE", str(tmp_path / "file"))
    with pytest.raises(compiling.NoLibraryError, match="could not be compiled"):
        compiling.compiled("openferret.model", *sampler_native.SOURCES)
    monkeypatch.setenv("OPENFERRET_CACHE", str(tmp_path / "whole"))
    compiling.compiled("openferret.model", *sampler_native.SOURCES)
    (made,) = tmp_path.rglob("*.so")
    torn = tmp_path / "torn" / made.relative_to(tmp_path / "whole")
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"not a library")
    monkeypatch.setenv("OPENFERRET_CACHE", str(tmp_path / "torn"))
    with pytest.raises(compiling.NoLibraryError, match="cannot be opened"):
        compiling.compiled("openferret.model", *sampler_native.SOURCES)
