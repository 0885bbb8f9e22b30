import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from openferret.data.building.mixture import Group, arrange, repeated, sample_key
from openferret.data.building.recipe import TaskRule


def keys_of(count):
    return np.array([sample_key(str(number), 0) for number in range(count)], np.uint64)


def taken(keys, groups, rules=None, caps=None):
    arranged = arrange(keys, groups, rules or {}, caps or {})
    return [(int(keys[row]), int(copy)) for row, copy in zip(arranged.rows, arranged.copies, strict=True)]


@given(st.permutations(range(30)), st.floats(0, 3).map(lambda weight: round(weight, 2)), st.integers(1, 40))
def test_the_choice_is_of_keys_not_of_places(places, weight, cap):
    keys, shuffled = keys_of(30), np.array(places)
    rules = {("a", "t"): TaskRule(weight, cap)}
    groups = [Group("a", "t", np.arange(20)), Group("a", "u", np.arange(20, 30))]
    moved = keys[shuffled]
    place = {int(key): number for number, key in enumerate(moved)}
    moved_groups = [
        Group(one.source, one.task, np.array([place[int(keys[row])] for row in one.rows])) for one in groups
    ]
    first = taken(keys, groups, rules, {"a": 25})
    assert first == taken(moved, moved_groups, rules, {"a": 25})
    assert (
        len(set(first))
        == len(first)
        == min(25, 10 + min(cap, 20 * int(weight) + round((weight - int(weight)) * 20)))
    )


def test_a_larger_cap_keeps_what_a_smaller_one_had():
    keys = keys_of(50)
    groups = [Group("a", "t", np.arange(50))]
    small, large = (taken(keys, groups, {("a", "t"): TaskRule(cap=cap)}) for cap in (10, 20))
    assert set(small) < set(large)


def test_weight_zero_and_nothing():
    keys = keys_of(5)
    assert taken(keys, [Group("a", "t", np.arange(5))], {("a", "t"): TaskRule(0.0)}) == []
    assert taken(keys, []) == []


def test_repeated_keys():
    keys = np.array([5, 3, 5, 7, 3, 5], np.uint64)
    assert repeated(keys).tolist() == [2, 4, 5]
