"""Which samples are taken, how often, and in what order: a matter of their keys alone.

A sample's key is a hash of its id and the seed. Shares, caps and the final order compare keys, never places or
times, so they are the same whoever wrote the samples and in whatever order they were found; a cap that grows
keeps what it had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openferret.data.building.recipe import TaskRule

Keys = NDArray[np.uint64]
Places = NDArray[np.int64]

_SHARE = 255  # stands for a copy's number where a share of the samples is chosen


@dataclass(frozen=True)
class Group:
    """The samples of one task from one source.

    Args:
        source: the source's name.
        task: the task's.
        rows: int64 [n], their places among all samples.
    """

    source: str
    task: str
    rows: Places


def sample_key(sample_id: str, seed: int) -> int:
    """64 bits of a sample's id and the seed.

    >>> sample_key("a", 0) == sample_key("a", 0) != sample_key("a", 1)
    True
    """
    salt = seed.to_bytes(16, "little")
    return int.from_bytes(hashlib.blake2b(sample_id.encode(), digest_size=8, salt=salt).digest(), "little")


def repeated(keys: Keys) -> Places:
    """Places of samples whose key stood before: the later ones of each, ascending."""
    order = np.argsort(keys, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    later: Places = np.sort(order[1:][same]).astype(np.int64)
    return later


@dataclass(frozen=True)
class Arranged:
    """The samples of a data set in their order.

    Args:
        rows: int64 [m], places among all samples; a sample of weight 3 stands there three times.
        copies: int64 [m], 0 for the first time it is taken, 1 for the second...
    """

    rows: Places
    copies: Places

    def smallest(self, orders: Keys, count: int | None) -> tuple[Arranged, Keys]:
        """Those of the smallest orders (uint64 [m]), at most `count` of them."""
        if count is None or len(orders) <= count:
            return self, orders
        first = np.argsort(orders, kind="stable")[:count]
        return Arranged(self.rows[first], self.copies[first]), orders[first]


def arrange(
    keys: Keys, groups: Sequence[Group], rules: Mapping[tuple[str, str], TaskRule], caps: Mapping[str, int]
) -> Arranged:
    """Chooses samples and puts them in order.

    Args:
        keys: uint64 [n], of all samples there are, each once.
        groups: which of them belong together; a sample in no group is not taken.
        rules: weight and cap by (source, task); what is not there is taken once.
        caps: most samples by source.
    """
    by_source: dict[str, list[tuple[Arranged, Keys]]] = {}
    for group in groups:
        rule = rules.get((group.source, group.task), TaskRule())
        taken, orders = _copies(keys, group.rows, rule.weight)
        by_source.setdefault(group.source, []).append(taken.smallest(orders, rule.cap))
    capped = [_joined(each) for each in by_source.values()]
    taken, orders = _joined(
        [one.smallest(orders, caps.get(name)) for name, (one, orders) in zip(by_source, capped, strict=True)]
    )
    # Orders of two copies may meet once in 2^64: then their keys decide.
    places = np.lexsort((keys[taken.rows], orders))
    return Arranged(taken.rows[places], taken.copies[places])


def _joined(parts: Sequence[tuple[Arranged, Keys]]) -> tuple[Arranged, Keys]:
    nothing = np.empty(0, np.int64)
    rows = np.concatenate([nothing, *(part.rows for part, _ in parts)])
    copies = np.concatenate([nothing, *(part.copies for part, _ in parts)])
    return Arranged(rows, copies), np.concatenate([np.empty(0, np.uint64), *(orders for _, orders in parts)])


def _copies(keys: Keys, rows: Places, weight: float) -> tuple[Arranged, Keys]:
    whole = int(weight)
    parts = [(Arranged(rows, np.full(len(rows), copy)), _mixed(keys[rows], copy)) for copy in range(whole)]
    count = round((weight - whole) * len(rows))
    if count:
        share, _ = Arranged(rows, np.full(len(rows), whole)).smallest(_mixed(keys[rows], _SHARE), count)
        parts.append((share, _mixed(keys[share.rows], whole)))
    return _joined(parts)


def _mixed(keys: Keys, number: int) -> Keys:
    """SplitMix64's finisher of keys and a number: as good as another hash, at the speed of arrays."""
    with np.errstate(over="ignore"):
        mixed = keys + np.uint64((0x9E3779B97F4A7C15 * (number + 1)) % 2**64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        result: Keys = mixed ^ (mixed >> np.uint64(31))
    return result
