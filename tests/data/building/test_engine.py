import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from openferret.data.building.engine import InProcess, Job, Processes, open_engine
from openferret.data.building.pipeline import build
from openferret.data.building.recipe import load_recipe
from openferret.errors import InputError

from .. import small_set


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_is_done_once(workers):
    with open_engine("local", workers) as engine:
        assert isinstance(engine, InProcess if workers == 1 else Processes)
        found = dict(engine.run([Job(divmod, (number, 3)) for number in range(20)]))
    assert found == {number: divmod(number, 3) for number in range(20)}


def test_an_error_of_a_job_is_raised_here():
    with open_engine("local", 2) as engine, pytest.raises(ZeroDivisionError):
        list(engine.run([Job(divmod, (1, number)) for number in range(3)]))


def test_a_process_that_is_ended_from_outside_is_told():
    with open_engine("local", 2) as engine, pytest.raises(InputError, match="goes on where it stopped"):
        list(engine.run([Job(os._exit, (1,))]))


WORK = """
import os, sys, time
from pathlib import Path
from openferret.data.building.engine import Job, Processes

def work(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(0.1)
    return {}

if __name__ == "__main__":
    with Processes(2) as engine:
        list(engine.run([Job(work, (sys.argv[1],))] * 10_000))
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked for in /proc")
def test_workers_of_a_build_that_is_killed_end_with_it(tmp_path):
    (tmp_path / "seen").mkdir()
    (tmp_path / "main.py").write_text(WORK)
    child = subprocess.Popen(
        [sys.executable, tmp_path / "main.py", tmp_path / "seen"], stderr=subprocess.DEVNULL
    )
    try:
        assert _within(60, lambda: len(list((tmp_path / "seen").iterdir())) == 2)
    finally:
        child.kill()
        child.wait()
    workers = [Path("/proc") / file.name for file in (tmp_path / "seen").iterdir()]
    try:
        assert _within(20, lambda: not any(one.exists() for one in workers))
    finally:
        for one in workers:
            with suppress(ProcessLookupError):
                os.kill(int(one.name), signal.SIGKILL)


def _within(seconds, holds):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.slow
def test_ray_makes_the_same_rows_though_a_node_is_lost(tmp_path):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    small_set.write_source(tmp_path / "source", 60)
    content = small_set.recipe_content(tmp_path / "source", shard_size=8)
    recipe = load_recipe(small_set.write_recipe(tmp_path / "recipe.yaml", content))
    here = build(recipe, tmp_path / "here")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    lost = cluster.add_node(num_cpus=2)
    removed = threading.Event()

    def lose_a_node(step, done, total):
        if step == "joining" and done == 3 and not removed.is_set():
            cluster.remove_node(lost)
            removed.set()

    try:
        ray.init(address=cluster.address, log_to_driver=False)
        there = build(recipe, tmp_path / "there", workers=3, engine="ray", progress=lose_a_node)
        assert removed.is_set()
        assert sum(node["Alive"] for node in _settled(ray)) == 1
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert there["sha256"] == here["sha256"]
    assert there["shards"] == here["shards"]
    assert len(here["shards"]) > 10


def _settled(ray):
    """The cluster's nodes, once the loss has been noticed."""
    for _ in range(300):
        nodes = ray.nodes()
        if sum(node["Alive"] for node in nodes) == 1:
            return nodes
        time.sleep(0.1)
    return ray.nodes()


def test_ray_is_asked_for_by_name_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"openferret\[ray\]"):
        open_engine("ray", 2)
