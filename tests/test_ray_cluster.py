"""Connecting to Ray, as it goes wrong; clusters that are started are in tests/serve and tests/labelling."""

import sys
from types import SimpleNamespace

import pytest

from openferret.errors import InputError
from openferret.ray_cluster import connect


@pytest.fixture
def ray(monkeypatch):
    """A Ray whose `init` fails as it is told."""

    def fail(**how):
        raise made.error

    made = SimpleNamespace(is_initialized=lambda: False, init=fail, error=None)
    monkeypatch.setitem(sys.modules, "ray", made)
    monkeypatch.setitem(sys.modules, "ray.serve", SimpleNamespace())
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_ENABLE_AUTO_CONNECT", "0")
    return made


@pytest.mark.parametrize("error", [ConnectionError("a"), Exception("the node timed out"), ValueError("b")])
def test_a_cluster_that_does_not_start_is_told_in_a_sentence(ray, error):
    ray.error = error
    with pytest.raises(InputError, match="cannot be reached"):
        connect("serve")


def test_a_cluster_that_would_be_open_to_all_is_not_started(ray, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(InputError, match="open to all"):
        connect("serve")


def test_a_cluster_that_is_there_is_taken_and_not_ended(ray):
    ray.is_initialized = lambda: True
    assert connect("serve") == (ray, False)


def test_a_part_that_is_not_installed_is_told_with_its_extra(ray):
    with pytest.raises(InputError, match=r"openferret\[ray\]"):
        connect("nothing")
