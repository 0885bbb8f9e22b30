import asyncio
from types import SimpleNamespace

import pytest

from openferret.serve.engine import Engine
from openferret.serve.errors import busy
from openferret.serve.limits import LIMITS, Budget
from openferret.serve.pictures import PictureStore
from openferret.serve.reading import ReadAhead
from openferret.serve.work import Outcome


@pytest.fixture
def ahead():
    """A store, what reads ahead from it, and the jobs that its engine was given."""
    jobs = []
    store = PictureStore(LIMITS, Budget(LIMITS.held))
    reader = ReadAhead(SimpleNamespace(submit=jobs.append), store, most=8)
    return SimpleNamespace(store=store, reader=reader, jobs=jobs)


async def send(ahead, make, seed, client="a"):
    async with ahead.store.decoded(make.png(make.picture(seed))) as picture:
        name = ahead.store.name(picture)
    ahead.reader.put(name, client)
    return name, picture.digest


async def settle(check):
    for _ in range(200):
        if check():
            return True
        await asyncio.sleep(0.005)
    return False


def test_of_many_pictures_one_is_held_and_waits_in_the_queue(ahead, make):
    async def run():
        sent = [await send(ahead, make, seed) for seed in range(5)]
        assert await settle(lambda: len(ahead.reader) == 4)
        assert [job.picture.digest for job in ahead.jobs] == [sent[0][1]]
        one = ahead.jobs[0].picture.held
        assert ahead.store.budget.held == one
        ahead.store.drop(sent[3][0])  # what is forgotten is not read
        for count in range(1, 5):
            assert len(ahead.jobs) == count
            assert ahead.store.budget.held == one
            ahead.jobs[-1].finish(Outcome(()))
            assert await settle(lambda count=count: len(ahead.jobs) == min(4, count + 1))
        assert await settle(lambda: ahead.store.budget.held == 0)
        assert [job.picture.digest for job in ahead.jobs] == [sent[n][1] for n in (0, 4, 2, 1)]

    asyncio.run(run())


def test_only_so_many_wait_and_the_last_are_kept(ahead, make):
    async def run():
        sent = [await send(ahead, make, seed) for seed in range(12)]
        assert len(ahead.reader) == 8
        ahead.jobs[0].finish(Outcome(()))
        assert await settle(lambda: len(ahead.jobs) == 2)
        assert ahead.jobs[1].picture.digest == sent[-1][1]
        await ahead.reader.close()
        assert not len(ahead.reader)
        assert ahead.store.budget.held == 0

    asyncio.run(run())


def test_a_picture_that_finds_no_room_is_left_for_whoever_asks(ahead, make, monkeypatch):
    def refuse(job):
        raise busy("queue_full", "full")

    async def run():
        monkeypatch.setattr(ahead.reader._engine, "submit", refuse)
        await send(ahead, make, 1)
        assert await settle(lambda: not len(ahead.reader))
        monkeypatch.setattr(ahead.reader._engine, "submit", ahead.jobs.append)
        await send(ahead, make, 2)
        assert await settle(lambda: len(ahead.jobs) == 1)
        await ahead.reader.close()

    asyncio.run(run())


def test_an_album_leaves_room_in_the_queue_for_its_senders_questions(new_client, lively, make, monkeypatch):
    engine = Engine(lively)
    monkeypatch.setattr(engine, "start", lambda: None)  # nothing is taken from the queue
    client = new_client(engine=engine)
    headers = {"content-type": "image/png"}
    for seed in range(12):
        assert (
            client.post("/v1/images", content=make.png(make.picture(seed)), headers=headers).status_code
            == 201
        )
    assert len(engine._queue) == 1
    assert len(client.app.state.service.reader) == 11
