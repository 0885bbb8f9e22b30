"""Checkpoints are whole or not there; what ends a run from outside is said in one line."""

import pytest

from openferret.errors import InputError
from openferret.train.running.failures import explanation
from openferret.train.weights.checkpoint import (
    Identity,
    begin_checkpoint,
    checkpoints,
    damage,
    finish_checkpoint,
    open_checkpoint,
    partial_folder,
)


@pytest.fixture
def identity(making, tmp_path):
    return Identity(making.recipe(tmp_path, tmp_path, tmp_path), "data", "start", ("language",))


def save(place, step, identity, keep=2):
    begin_checkpoint(place, step)
    (partial_folder(place, step) / "weights").write_bytes(bytes([step]) * 1000)
    return finish_checkpoint(place, step, identity, keep)


def test_one_that_was_not_finished_does_not_count(tmp_path, identity):
    save(tmp_path, 1, identity)
    begin_checkpoint(tmp_path, 2)
    (partial_folder(tmp_path, 2) / "weights").write_bytes(b"half")
    assert open_checkpoint(tmp_path, identity) == (1, tmp_path / "step-000001")
    save(tmp_path, 2, identity)
    assert [step for step, _ in checkpoints(tmp_path)] == [1, 2]
    assert not list(tmp_path.glob("*.partial"))


def test_the_newest_are_kept(tmp_path, identity):
    for step in (1, 2, 3, 10):
        save(tmp_path, step, identity)
    assert [step for step, _ in checkpoints(tmp_path)] == [3, 10]


@pytest.mark.parametrize("name", ["weights", "state.json", "files.json"])
@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
def test_damage_of_any_file_is_found(tmp_path, identity, name, how):
    save(tmp_path, 1, identity)
    folder = save(tmp_path, 2, identity)
    assert damage(folder) == ""
    file = folder / name
    content = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if how == "cut" else b"\x00" + content[1:])
    assert name in damage(folder)
    with pytest.raises(
        InputError, match=r"step-000002 is damaged.*remove this folder to go on from step-000001"
    ):
        open_checkpoint(tmp_path, identity)


def test_what_does_not_change_the_result_may_differ(making, tmp_path, identity):
    save(tmp_path, 1, identity)
    changes = {"batch__micro": 1, "threads": 2, "every__checkpoint": 9, "data__workers": 3}
    other = Identity(making.recipe(tmp_path, tmp_path, tmp_path, **changes), "data", "start", ("language",))
    assert open_checkpoint(tmp_path, other) is not None
    for name, value in (("data", "other"), ("start", "other"), ("losses", ("language", "locator"))):
        fields = {"data": "data", "start": "start", "losses": ("language",), name: value}
        with pytest.raises(InputError, match="changed"):
            open_checkpoint(tmp_path, Identity(identity.recipe, **fields))


def test_what_ended_a_run_is_told(identity):
    recipe = identity.recipe
    gone = RuntimeError("[gloo/transport/tcp/pair.cc:537] Connection closed by peer [127.0.0.1]:1")
    assert "another process" in explanation(gone, recipe, 7, processes=2)
    assert explanation(gone, recipe, 7) == ""
    killed = RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")
    assert "data.workers=0" in explanation(killed, recipe, 7)
    cpu = RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    )
    assert "batch.micro=1 --resume" in explanation(cpu, recipe, 7)
    assert "activation_checkpointing=true" in explanation(MemoryError(), recipe, 7)
    assert explanation(RuntimeError("shapes do not fit"), recipe, 7) == ""
