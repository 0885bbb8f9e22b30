import os
import time

import pytest

from openferret.errors import WeightsError
from openferret.kit import assemble
from openferret.kit.assemble import is_whole, mark_whole


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"12345")
    (tmp_path / "config.json").write_text("{}")
    mark_whole(tmp_path)
    return tmp_path


def test_a_marked_folder_is_whole(folder):
    assert is_whole(folder)


def test_a_file_that_is_cut_off_or_gone_is_noticed(folder):
    (folder / "model.safetensors").write_bytes(b"1234")
    assert not is_whole(folder)
    (folder / "model.safetensors").unlink()
    assert not is_whole(folder)


@pytest.mark.parametrize("content", ["", "[]", "torn {"])
def test_a_torn_mark_is_no_mark(folder, content):
    (folder / "complete.json").write_text(content)
    assert not is_whole(folder)


def test_a_folder_that_was_never_finished_is_not_whole(tmp_path):
    assert not is_whole(tmp_path)


def test_a_kit_that_somebody_uses_stays(tmp_path):
    ages = {"kit-used": 1, "kit-unused": 15, "kit-torn": 0, "smollm2": 100}
    for name, days in ages.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        mark_whole(tmp_path / name)
        then = time.time() - days * 24 * 3600
        os.utime(tmp_path / name / "complete.json", (then, then))
    (tmp_path / "kit-torn" / "config.json").write_text("{")
    assemble.remove_unused(tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["kit-used", "smollm2"]


def test_a_package_without_its_adapter_says_so(monkeypatch):
    monkeypatch.setattr(assemble, "ADAPTER_FILE", "no-such-adapter.safetensors")
    with pytest.raises(WeightsError, match="install openferret again"):
        assemble.adapter_path()
