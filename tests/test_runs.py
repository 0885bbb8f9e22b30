from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from openferret.errors import InputError
from openferret.masks import encode_rle, read_rle, shrink_mask, shrink_runs
from openferret.regions import Mask, fit_region, region_bounds, region_mask
from openferret.runs import Runs

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40))


@given(MASKS)
def test_pixels_survive(mask: np.ndarray[Any, Any]) -> None:
    runs = Runs.of(mask)
    assert np.array_equal(runs.mask(), mask)
    assert (runs.starts < runs.ends).all()
    again = read_rle(encode_rle(mask))
    assert np.array_equal(again.starts, runs.starts)
    assert np.array_equal(again.ends, runs.ends)


@given(MASKS, st.data())
def test_a_coarse_copy_is_that_of_the_pixels_in_whichever_order_they_lie(
    mask: np.ndarray[Any, Any], data: st.DataObject
) -> None:
    height, width = mask.shape
    columns, rows = data.draw(st.integers(1, width)), data.draw(st.integers(1, height))
    counted = Runs.of(mask).coverage(columns, rows)
    tops, lefts = (np.arange(n + 1) * size // n for n, size in ((rows, height), (columns, width)))
    for row in range(rows):
        for column in range(columns):
            cell = mask[tops[row] : tops[row + 1], lefts[column] : lefts[column + 1]]
            assert counted[row, column] == cell.sum()
    assume(mask.any())
    coarse = shrink_runs(Runs.of(mask), columns, rows)
    for order in "CF":
        assert np.array_equal(coarse, shrink_mask(np.asarray(mask, order=order), columns, rows))


def test_a_run_that_ends_where_a_column_ends_and_empty_runs() -> None:
    runs = Runs.alternating(3, 4, np.array([4, 4, 0, 0, 4]))
    assert runs.bounds() == (1, 0, 2, 4)
    assert len(runs) == 1
    whole = Runs.alternating(3, 4, np.array([0, 12]))
    assert whole.bounds() == (0, 0, 3, 4)
    assert whole.mask().all()


@given(MASKS)
def test_a_mask_of_runs_is_the_mask_of_its_pixels(mask: np.ndarray[Any, Any]) -> None:
    height, width = mask.shape
    if not mask.any():
        with pytest.raises(InputError, match="empty"):
            Mask.of_runs(Runs.of(mask))
        return
    ours, theirs = Mask.of_runs(Runs.of(mask)), Mask(mask)
    assert ours.size == theirs.size
    assert region_bounds(ours, width, height) == region_bounds(theirs, width, height)
    for side in (7, 1024):
        assert np.array_equal(*(region_mask(one, width, height, max_side=side) for one in (ours, theirs)))
    assert ours == theirs
    assert hash(ours) == hash(theirs)


def test_a_mask_of_runs_makes_no_pixels_for_what_a_model_asks() -> None:
    mask = Mask.of_runs(Runs.alternating(8000, 5000, np.array([10**7, 2 * 10**7, 10**7])))
    assert fit_region(mask, 8000, 5000) == (mask, [])
    assert region_bounds(mask, 8000, 5000).x1 == 2000
    assert region_mask(mask, 8000, 5000).shape == (640, 1024)
    assert "array" not in vars(mask)
    assert mask.array.shape == (5000, 8000)
    with pytest.raises(InputError, match="as large as the picture"):
        fit_region(mask, 5000, 8000)
    with pytest.raises(AttributeError):
        mask.colour  # noqa: B018
