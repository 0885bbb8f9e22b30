import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from openferret.errors import InputError
from openferret.train.stages.devices import batches, moved, open_device


@dataclass(frozen=True)
class Inner:
    numbers: tuple[torch.Tensor, ...]
    name: str


@dataclass(frozen=True)
class Outer:
    inner: Inner
    texts: list[str]
    nothing: None = None


def test_everything_within_is_moved():
    one = Outer(Inner((torch.zeros(2), torch.ones(1)), "a"), ["b"])
    there = moved(one, torch.device("meta"))
    assert all(tensor.is_meta for tensor in there.inner.numbers)
    assert (there.inner.name, there.texts, there.nothing) == ("a", ["b"], None)
    assert not one.inner.numbers[0].is_meta


def draw(step: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng([7, step]).random(3))


def test_workers_make_the_same_batches_in_the_same_order():
    alone, helped = (list(itertools.islice(batches(draw, 5, workers), 6)) for workers in (0, 2))
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))
    assert torch.equal(alone[0], draw(5))


@pytest.mark.parametrize("name", ["tpu9000", "cuda:99"])
def test_a_device_that_is_not_there_is_told(name):
    with pytest.raises(InputError, match="--device cpu always can"):
        open_device(name)


def test_fewer_than_no_workers_are_refused():
    with pytest.raises(InputError, match="0 or more"):
        batches(draw, 0, -1)
