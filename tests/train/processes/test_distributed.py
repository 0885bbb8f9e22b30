"""Two processes and more: the same losses, the same rows, nothing hangs, and a killed one ends the job."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

WORKER = Path(__file__).parent.with_name("worker.py")


def launch(processes, build, start, out, **changes):
    """Runs a job; what each process saw, or the error it ended with."""
    out.mkdir(exist_ok=True)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"),
        *(str(WORKER), str(build), str(start), str(out), json.dumps(changes)),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment, check=False)
    if done.returncode:
        return done.stderr
    return [json.loads((out / f"seen-{rank}.json").read_text()) for rank in range(processes)]


@pytest.fixture(scope="module")
def paper(making, tiny, tmp_path_factory):
    return making.write_start(tiny, tmp_path_factory.mktemp("paper") / "model", "paper")


def same(seen, other):
    assert list(seen["losses"].values()) == pytest.approx(list(other["losses"].values()), rel=1e-4)


def test_two_processes_share_a_step_and_lose_as_one(build, start, tmp_path):
    one = launch(1, build, start, tmp_path / "one")
    two = launch(2, build, start, tmp_path / "two")
    assert two[0]["processes"] == 2
    same(one[0], two[0])
    same(two[0], two[1])
    for step, batches in one[0]["samples"].items():
        shared = [row for rank in two for batch in rank["samples"][step] for row in batch]
        assert sorted(shared) == sorted(row for batch in batches for row in batch)


def test_sharded_weights_lose_as_one_process_and_go_on_with_another_number(build, paper, tmp_path):
    rates = {"language": 1e-3, "projector": 1e-3, "sampler": 1e-3, "embeddings": 1e-3, "vision": 1e-3}
    changes = {"optimizer__rates": rates, "steps": 4}
    whole = launch(1, build, paper, tmp_path / "whole", **changes)
    sharded = launch(2, build, paper, tmp_path / "sharded", sharding="fully_shard", **changes)
    assert not isinstance(sharded, str), sharded
    names = sharded[0]["sharded"]
    assert "model.model.language_model.layers.0.mlp.up_proj.weight" in names
    assert "model.model.projector.weight" in names
    same(whole[0], sharded[0])
    newest = tmp_path / "sharded/checkpoints/step-000004"
    (tmp_path / "sharded/checkpoints/step-000004").rename(tmp_path / "later")
    assert not newest.exists()
    for processes in (1, 4):
        (tmp_path / f"copy-{processes}").mkdir()
        subprocess.run(
            ["cp", "-r", tmp_path / "sharded/checkpoints", tmp_path / f"copy-{processes}"], check=True
        )
        again = launch(
            processes,
            build,
            paper,
            tmp_path / f"copy-{processes}",
            sharding="fully_shard",
            resume=True,
            batch__micro=1,
            **changes,
        )
        assert not isinstance(again, str), again
        assert again[0]["first_step"] == 2
        assert again[0]["losses"] == pytest.approx(
            {step: whole[0]["losses"][step] for step in ("3", "4")}, rel=1e-4
        )


def test_a_scalar_is_sharded_too_and_comes_back_as_one(build, start, tmp_path):
    """Kit's regions have one learned length."""
    changes = {"optimizer__rates": {"sampler": 1e-2, "language": 1e-3}, "steps": 2}
    whole = launch(1, build, start, tmp_path / "whole", **changes)
    sharded = launch(2, build, start, tmp_path / "sharded", sharding="fully_shard", **changes)
    assert not isinstance(sharded, str), sharded
    assert "model.model.region_scale" in sharded[0]["sharded"]
    same(whole[0], sharded[0])
    lengths = [
        load_file(folder / "model.safetensors")["model.region_scale"]
        for folder in (start, tmp_path / "whole/model", tmp_path / "sharded/model")
    ]
    assert lengths[2].ndim == 0
    assert lengths[2] == pytest.approx(float(lengths[1]), rel=1e-5)
    assert lengths[0] != lengths[1]


@pytest.mark.parametrize("sharding", ["auto", "fully_shard"])
def test_a_process_without_regions_keeps_nobody_waiting(making, paper, tmp_path, sharding):
    """Rows of one dialogue each: many passes have no region, while the other process has some."""
    mixed = making.write_build(tmp_path / "mixed", pictures=8, each=5)
    seen = launch(
        2,
        mixed,
        paper,
        tmp_path / "run",
        sharding=sharding,
        data__dialogues=1,
        batch__micro=1,
        batch__size=2,
        steps=8,
        every__checkpoint=0,
    )
    assert not isinstance(seen, str), seen
    kinds = [[samples[0][0][0].split(":")[1] for samples in rank["samples"].values()] for rank in seen]
    without = {"1", "2", "4"}  # kinds of dialogue that point at nothing
    assert any((a in without) != (b in without) for a, b in zip(*kinds, strict=True))
    same(seen[0], seen[1])


@pytest.mark.parametrize("sharding", ["auto", "fully_shard"])
def test_a_killed_process_ends_the_job_and_it_goes_on(build, paper, tmp_path, sharding):
    whole = launch(2, build, paper, tmp_path / "whole", sharding=sharding, steps=6)
    said = launch(2, build, paper, tmp_path / "run", sharding=sharding, steps=6, kill_at=3)
    assert isinstance(said, str)
    assert "Signal 9 (SIGKILL)" in said or "another process of this job is gone" in said
    again = launch(2, build, paper, tmp_path / "run", sharding=sharding, steps=6, resume=True)
    assert not isinstance(again, str), again
    assert again[0]["first_step"] == 2
    expected = {step: loss for step, loss in whole[0]["losses"].items() if int(step) > 2}
    assert again[0]["losses"] == pytest.approx(expected, rel=1e-6)
