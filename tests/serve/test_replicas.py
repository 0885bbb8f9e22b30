"""Replicas on a Ray cluster that is started here: killed, and asked all the same."""

import asyncio
import json
import os
import runpy
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from openferret.errors import InputError
from openferret.serve import work
from openferret.serve.app import ServerSettings, create_app
from openferret.serve.errors import ServeError
from openferret.serve.jobs import Job
from openferret.serve.replica import Refusal

# Ray's own code warns of its dependencies; ours runs in other processes.
pytestmark = pytest.mark.filterwarnings("ignore")
TESTS = Path(__file__).parents[1]


def load(path):
    """The lively model of conftest.py, made anew in a replica."""
    made = runpy.run_path(path)
    return made["enliven"](runpy.run_path(str(Path(path).parents[1] / "tiny.py"))["loaded"]("kit"))


@pytest.fixture(scope="module")
def replicas():
    pytest.importorskip("ray", reason="replicas are tested with Ray (pip install 'openferret[ray]')")
    from openferret.serve.replicas import RayReplicas, ReplicaSettings

    made = RayReplicas(
        "kit", partial(load, str(TESTS / "serve" / "conftest.py")), ReplicaSettings(2, 2, cpus=0.5)
    )
    yield made
    made.close(5)


@pytest.fixture(scope="module")
def served(replicas):
    settings = ServerSettings(hosts=("testserver",), deadline=120)
    with TestClient(create_app(replicas, settings)) as client:
        ends = time.monotonic() + 500
        while client.get("/health/ready").status_code != 200 or replicas.replicas < 2:
            assert time.monotonic() < ends, "the replicas did not start"
            time.sleep(0.2)
        yield client


def process_ids(replicas):
    """Of the replicas that answer; each is asked until all have been heard."""
    return {replicas._handle.process.remote().result(timeout_s=60) for _ in range(12)}


def in_flight(served, make, stream):
    """Four long answers on four pictures, which two replicas share; their replies when they come."""
    replies = {}

    def ask(seed):
        body = {"image": make.inline(seed), "question": "a", "max_new_tokens": 512, "stream": stream}
        replies[seed] = served.post("/v1/ask", json=body)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(10, 14)]
    for one in threads:
        one.start()
    return threads, replies


def kill(process):
    os.kill(process, signal.SIGKILL)
    return time.monotonic()


def counted(replicas, name):
    return replicas.metrics.registry.get_sample_value(f"openferret_{name}")


@pytest.mark.slow
def test_the_same_app_answers_through_replicas_as_in_one_process(served, client, make):
    image = make.inline(1)
    for path, body in {
        "/v1/ask": {"question": "what is this", "max_new_tokens": 12},
        "/v1/refer": {"regions": [make.BOX, make.BOX], "max_new_tokens": 6},
        "/v1/ground": {"phrases": ["a dog"], "threshold": 0},
        "/v1/detect": {"threshold": 0.1},
    }.items():
        said = [one.post(path, json={"image": image, **body}) for one in (served, client)]
        assert [one.status_code for one in said] == [200, 200]
        # Another number of threads adds in another order: the last digits of a score may differ.
        read = [json.loads(one.text, parse_float=lambda number: round(float(number), 4)) for one in said]
        ours, theirs = ([*one.get("answers", [one.get("answer")])] for one in read)
        assert [one["text"] for one in ours] == [one["text"] for one in theirs]
        assert [one["mentions"] for one in ours] == [one["mentions"] for one in theirs]
    assert served.post("/v1/ask", json={"image": image, "question": ""}).status_code == 422


@pytest.mark.slow
def test_a_stream_through_replicas_adds_up(served, make):
    body = {"image": make.inline(2), "question": "what is this", "max_new_tokens": 40, "stream": True}
    events = served.post("/v1/ask", json=body).text.strip().split("\n\n")
    pieces = [json.loads(one.partition("data: ")[2])["text"] for one in events if "event: token" in one]
    answer = json.loads(events[-1].partition("data: ")[2])["answer"]
    assert len(pieces) > 2
    assert "".join(pieces) == answer["text"]


@pytest.mark.slow
def test_requests_of_a_killed_replica_are_asked_once_more_and_answered(served, replicas, make):
    victim = min(process_ids(replicas))
    threads, replies = in_flight(served, make, stream=False)
    make.wait_for(lambda: len(replicas._tasks) == 4)
    time.sleep(0.1)  # they are on their way, and long answers
    killed = kill(victim)
    body = {"image": make.inline(20), "question": "a", "max_new_tokens": 2}
    assert served.post("/v1/ask", json=body).status_code == 200
    assert time.monotonic() - killed < 90
    for one in threads:
        one.join(120)
    assert [one.status_code for one in replies.values()] == [200] * 4
    assert counted(replicas, "retries_total") > 0
    make.wait_for(lambda: replicas.replicas == 2, 200)  # another has taken its place


@pytest.mark.slow
def test_streams_of_a_killed_replica_end_with_a_typed_error(served, replicas, make):
    begun = counted(replicas, "first_text_seconds_count")
    victim = min(process_ids(replicas))
    threads, replies = in_flight(served, make, stream=True)
    make.wait_for(lambda: counted(replicas, "first_text_seconds_count") == begun + 4, 60)
    kill(victim)
    for one in threads:
        one.join(120)
    last = [one.text.strip().split("\n\n")[-1] for one in replies.values()]
    lost = [json.loads(one.partition("data: ")[2])["error"]["code"] for one in last if "event: error" in one]
    assert set(lost) == {"replica_lost"}
    assert all("event: answer" in one or "event: error" in one for one in last)
    make.wait_for(lambda: replicas.replicas == 2, 200)


@pytest.mark.slow
def test_a_client_that_leaves_frees_its_replica(served, replicas, make):
    before = replicas.metrics.registry.get_sample_value("openferret_cancelled_total")
    job = Job(make.held(4), "a", work.ask("a", (), 512))

    async def leave():
        replicas.submit(job)
        await asyncio.sleep(0.1)
        replicas.cancel(job)

    served.portal.call(leave)
    make.wait_for(lambda: not replicas._tasks, 60)
    assert replicas.metrics.registry.get_sample_value("openferret_cancelled_total") == before + 1
    body = {"image": make.inline(4), "question": "a", "max_new_tokens": 2}
    assert served.post("/v1/ask", json=body).status_code == 200


@pytest.mark.slow
def test_replicas_follow_the_load_on_a_cluster_that_is_there_already(served, replicas, make):
    from openferret.serve.replicas import RayReplicas, ReplicaSettings

    path = str(TESTS / "serve" / "conftest.py")
    made = RayReplicas("kit", partial(load, path), ReplicaSettings(1, 2, cpus=0.25, ongoing=1))
    made.start()
    try:
        make.wait_for(lambda: made.replicas == 1, 300)

        async def ask():
            jobs = [Job(make.held(seed), "a", work.ask("a", (), 512)) for seed in range(12)]
            for job in jobs:
                made.submit(job)
            while made.replicas < 2 and not all(job.result.done() for job in jobs):
                await asyncio.sleep(0.2)
            return [len((await asyncio.wrap_future(job.result)).answers) for job in jobs]

        assert served.portal.call(ask) == [1] * 12
        make.wait_for(lambda: made.replicas == 2, 300)  # it takes a while to come, and two minutes to go
    finally:
        made.close(5)
    assert replicas.ready


def test_a_refusal_is_the_same_error_again():
    error = Refusal.of(ServeError(429, "queue_full", "come again")).error()
    assert (error.status_code, error.code, error.headers) == (429, "queue_full", {"Retry-After": "1"})


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    import sys

    from openferret.serve.replicas import RayReplicas

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"openferret\[ray\]"):
        RayReplicas("kit", lambda: None)
