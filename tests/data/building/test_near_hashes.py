import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openferret.data.building.near_hashes import NearHashes

HASHES = st.integers(0, 2**64 - 1)


@given(st.lists(HASHES, max_size=40), st.integers(0, 39), st.sets(st.integers(0, 63), max_size=8), st.data())
def test_the_same_is_found_as_by_comparing_all(hashes, place, flipped, data):
    wanted = hashes[place % len(hashes)] if hashes else 7
    for bit in flipped:
        wanted ^= 1 << bit
    near = data.draw(st.integers(0, 20))
    distances = [(hash_ ^ wanted).bit_count() for hash_ in hashes]
    least = min(distances, default=65)
    expected = distances.index(least) if least <= near else None
    assert NearHashes(np.array(hashes, np.uint64), near).nearest(wanted) == expected


@pytest.mark.parametrize("near", [0, 4, 32, 64])
def test_nothing_is_near_where_nothing_is(near):
    assert NearHashes(np.empty(0, np.uint64), near).nearest(1) is None
