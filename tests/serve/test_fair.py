from dataclasses import dataclass
from threading import Thread

import pytest

from openferret.serve.errors import ServeError
from openferret.serve.fair import FairQueue


@dataclass(eq=False)
class Job:
    client: str
    lane: str = "picture"
    rows: int = 1


def alone(first, second):
    return False


def together(first, second):
    return True


def filled(*jobs, rows=32):
    queue = FairQueue(100, 100, rows)
    for job in jobs:
        queue.put(job)
    return queue


def test_clients_take_turns_however_much_one_asks():
    queue = filled(*(Job("greedy", str(number)) for number in range(5)), Job("modest"), Job("other"))
    assert [queue.take(alone)[0].client for _ in range(4)] == ["greedy", "modest", "other", "greedy"]


def test_the_pictures_of_a_client_take_turns():
    queue = filled(Job("a", "x"), Job("a", "x"), Job("a", "x"), Job("a", "y"))
    assert [queue.take(alone)[0].lane for _ in range(4)] == ["x", "y", "x", "x"]


def test_all_who_ask_about_one_picture_are_taken_together():
    queue = filled(Job("a", "x"), Job("b", "y"), Job("c", "x"), Job("a", "x"))
    assert [(job.client, job.lane) for job in queue.take(together)] == [("a", "x"), ("c", "x"), ("a", "x")]
    assert len(queue) == 1


def test_no_more_rows_are_taken_than_allowed_and_none_is_lost():
    queue = filled(*(Job("a", rows=3) for _ in range(5)), rows=7)
    assert [len(queue.take(together)) for _ in range(3)] == [2, 2, 1]
    assert len(queue) == 0


def test_a_job_with_more_rows_than_allowed_is_still_taken():
    assert len(filled(Job("a", rows=50), rows=7).take(together)) == 1


def test_a_full_queue_and_a_client_with_its_share_are_refused():
    queue = FairQueue(3, 2, 32)
    queue.put(Job("a"))
    queue.put(Job("a"))
    with pytest.raises(ServeError) as greedy:
        queue.put(Job("a"))
    queue.put(Job("b"))
    with pytest.raises(ServeError) as late:
        queue.put(Job("c"))
    assert {greedy.value.status_code, late.value.status_code} == {429}
    assert late.value.headers == {"Retry-After": "1"}


def test_who_leaves_frees_a_place():
    queue = FairQueue(1, 1, 32)
    job = Job("a")
    queue.put(job)
    queue.discard(job)
    queue.discard(job)
    queue.put(Job("b"))
    assert queue.take(alone)[0].client == "b"


def test_closing_wakes_who_waits_and_hands_back_the_rest():
    queue, got = FairQueue(9, 9, 9), []
    waiter = Thread(target=lambda: got.append(queue.take(alone)))
    waiter.start()
    assert queue.close() == []
    waiter.join(10)
    assert got == [[]]
    with pytest.raises(ServeError):
        queue.put(Job("a"))
