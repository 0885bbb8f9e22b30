"""What tests of training share."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def making() -> ModuleType:
    """Small runs (`making.py`)."""
    spec = importlib.util.spec_from_file_location("making", Path(__file__).with_name("making.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def build(making, tmp_path_factory):
    """A build of 12 pictures with five dialogues each."""
    return making.write_build(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def start(making, tiny, tmp_path_factory):
    """A tiny Kit as a folder."""
    return making.write_start(tiny, tmp_path_factory.mktemp("start") / "model")
