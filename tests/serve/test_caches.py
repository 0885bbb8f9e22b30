from hypothesis import given
from hypothesis import strategies as st

from openferret.serve.caches import ByteCache


def test_what_was_used_longest_ago_goes_first():
    cache = ByteCache(10)
    cache.put("a", 1, 4)
    cache.put("b", 2, 4)
    assert cache.get("a") == 1
    cache.put("c", 3, 4)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)


def test_a_value_beyond_the_size_is_not_kept_and_costs_nobody_a_place():
    cache = ByteCache(10)
    cache.put("a", 1, 4)
    cache.put("b", 2, 11)
    assert (cache.get("a"), cache.get("b"), cache.held) == (1, None, 4)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 15))))
def test_it_never_holds_more_than_its_size(puts):
    cache, sizes = ByteCache(20), {}
    for name, size in puts:
        cache.put(name, size, size)
        sizes[name] = size
        assert cache.held <= 20
        assert cache.held == sum(value for one in sizes if (value := cache.get(one)) is not None)
