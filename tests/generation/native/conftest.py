"""What tests of the fast engine share."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def unpacking() -> ModuleType:
    """Packed matrices as ordinary ones again (`unpacking.py`)."""
    spec = importlib.util.spec_from_file_location("unpacking", Path(__file__).with_name("unpacking.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
