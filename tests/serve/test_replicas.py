"""Replicas on a Ray cluster that is started here: killed, and asked all the same."""

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


def kill_all(replicas):
    for process in process_ids(replicas):
        os.kill(process, signal.SIGKILL)


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
        ours, theirs = ([*one.json().get("answers", [one.json().get("answer")])] for one in said)
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
def test_requests_of_killed_replicas_are_answered_and_streams_end_with_a_typed_error(served, replicas, make):
    long = {"image": make.inline(3), "question": "a", "max_new_tokens": 512}
    got = {}

    def ask(name, **more):
        got[name] = served.post("/v1/ask", json=long | more)

    asking = [
        threading.Thread(target=ask, args=("whole",)),
        threading.Thread(target=ask, args=("stream",), kwargs={"stream": True}),
    ]
    for one in asking:
        one.start()
    make.wait_for(lambda: served.get("/metrics").text.count("openferret_first_text_seconds_count 0") == 0, 60)
    killed = time.monotonic()
    kill_all(replicas)
    for one in asking:
        one.join(120)
    recovered = time.monotonic() - killed
    assert got["whole"].status_code == 200, got["whole"].text
    assert got["whole"].json()["answer"]["text"]
    last = got["stream"].text.strip().split("\n\n")[-1]
    if "event: error" in last:
        assert json.loads(last.partition("data: ")[2])["error"]["code"] == "replica_lost"
    assert recovered < 60
    make.wait_for(lambda: replicas.replicas == 2, 60)


@pytest.mark.slow
def test_a_client_that_leaves_frees_its_replica(served, replicas, make):
    before = replicas.metrics.registry.get_sample_value("openferret_cancelled_total")
    job = Job(make.held(4), "a", work.ask("a", (), 512))

    async def leave():
        replicas.submit(job)
        await __import__("asyncio").sleep(1)
        replicas.cancel(job)

    served.portal.call(leave)
    make.wait_for(lambda: not replicas._tasks, 10)
    assert replicas.metrics.registry.get_sample_value("openferret_cancelled_total") == before + 1
    body = {"image": make.inline(4), "question": "a", "max_new_tokens": 2}
    assert served.post("/v1/ask", json=body).status_code == 200


def test_a_refusal_is_the_same_error_again():
    error = Refusal.of(ServeError(429, "queue_full", "come again")).error()
    assert (error.status_code, error.code, error.headers) == (429, "queue_full", {"Retry-After": "1"})


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    import sys

    from openferret.serve.replicas import RayReplicas

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"openferret\[ray\]"):
        RayReplicas("kit", lambda: None)
