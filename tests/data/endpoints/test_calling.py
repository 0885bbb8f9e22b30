import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from openferret.data.endpoints.calling import Caller, StoppedError
from openferret.data.endpoints.completions import CompletionError, request_completion
from openferret.data.endpoints.spending import BudgetSpent, Ledger, Pace, Prices
from openferret.data.files.kept import Kept
from openferret.errors import InputError
from openferret.eval.transport import ChatServer

from ..scripted import completion, scripted

ASKED = [{"role": "user", "content": "Hello there, who are you?"}]


def caller(url, timeout=30, **settings):
    settings = {"ledger": Ledger(), "pause": 0.01} | settings
    return Caller(ChatServer(url, "tiny", timeout=timeout), **settings)


def test_what_passes_is_asked_again():
    replies = [
        (500, {}, b"oops"),
        (200, {}, b"{not json"),
        (200, {}, json.dumps({"choices": []}).encode()),
        (200, {"Content-Length": 999}, b'{"choices": '),  # torn off
        (200, {}, completion("   ")),
        (200, {}, completion("I am here.")),
    ]
    with scripted(lambda _, number: replies[number]) as (url, log):
        asking = caller(url)
        said = asking.ask(ASKED, max_tokens=10)
    assert said.text == "I am here."
    assert (said.prompt_tokens, said.completion_tokens, said.finished) == (100, 50, True)
    assert len(log) == asking.ledger.requests == 6


def test_a_slow_server_is_given_up_and_asked_again():
    asked_again = threading.Event()

    def answer(_, number):
        if number == 0:
            assert asked_again.wait(60)
            return "late"
        asked_again.set()
        return "in time"

    with scripted(answer) as (url, log):
        assert caller(url, timeout=0.5).ask(ASKED).text == "in time"
    assert len(log) >= 2


def test_retry_after_holds_all_threads():
    def answer(_, number):
        return (429, {"Retry-After": "0.4"}, b"") if number == 0 else "ok"

    told = threading.Event()

    class Told(Pace):
        def hold(self, seconds):
            super().hold(seconds)
            told.set()

    with scripted(answer) as (url, log):
        asking = caller(url, pace=Told())
        with ThreadPoolExecutor(3) as pool:
            first = pool.submit(asking.ask, ASKED)
            assert told.wait(60)
            others = [pool.submit(asking.ask, [{"role": "user", "content": str(n)}]) for n in range(2)]
            assert [one.result().text for one in (first, *others)] == ["ok"] * 3
    assert all(at - log[0][0] >= 0.38 for at, _ in log[1:])


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_what_does_not_pass_is_not_asked_again(status):
    refused = pytest.raises(CompletionError, match=f"HTTP {status}")
    with scripted(lambda *_: (status, {"Location": "http://127.0.0.1:1/"}, b"no")) as (url, log), refused:
        caller(url).ask(ASKED)
    assert len(log) == 1


def test_tries_end():
    with scripted(lambda *_: (503, {}, b"")) as (url, log), pytest.raises(CompletionError, match="503"):
        caller(url, tries=3).ask(ASKED)
    assert len(log) == 3


def test_a_cut_off_reply_says_so():
    with scripted(lambda *_: (200, {}, completion("half a", "length"))) as (url, _):
        assert not request_completion(ChatServer(url, "tiny"), ASKED, {}).finished


@pytest.mark.parametrize("value", ["nan", "soon", "", "-5"])
def test_nonsense_of_retry_after_does_not_hang(value):
    def answer(_, number):
        return (429, {"Retry-After": value}, b"") if number == 0 else "ok"

    with scripted(answer) as (url, _):
        started = time.monotonic()
        assert caller(url).ask(ASKED).text == "ok"
        assert time.monotonic() - started < 60


def test_the_same_request_is_made_once(tmp_path):
    with scripted(lambda *_: "kept") as (url, log):
        for _ in range(2):  # the second time from the file
            asking = caller(url, cache=Kept(tmp_path / "cache.jsonl", "request"))
            assert asking.ask(ASKED, temperature=0).text == "kept"
        assert asking.ask(ASKED, temperature=1).text == "kept"
    assert len(log) == 2


def test_nothing_is_overspent_by_many_threads():
    ledger = Ledger(most_cost=0.01)
    with scripted(lambda *_: (200, {}, completion("ok", tokens=(1000, 1000)))) as (url, log):
        asking = caller(url, ledger=ledger, prices=Prices(1, 1))

        def ask(number):
            try:
                asking.ask([{"role": "user", "content": f"{number:04}" * 246}], max_tokens=1000)
            except BudgetSpent:
                return 0
            return 1

        with ThreadPoolExecutor(8) as pool:
            done = sum(pool.map(ask, range(40)))
    assert done == len(log) == 5  # each costs 0.002
    assert ledger.cost == pytest.approx(0.01)


def test_a_tokenizer_of_single_digits_overspends_nothing():
    ledger = Ledger(most_cost=0.01)
    with scripted(lambda *_: (200, {}, completion("ok", tokens=(4000, 0)))) as (url, _):
        asking = caller(url, ledger=ledger, prices=Prices(1, 1))
        told = [{"role": "user", "content": "0.25" * 1000}]
        assert [asking.ask(told, max_tokens=10).text for _ in range(2)] == ["ok", "ok"]
        with pytest.raises(BudgetSpent):
            asking.ask(told, max_tokens=10)
    assert ledger.cost == pytest.approx(0.008)


def test_replies_without_words_are_paid_for():
    # What a model says that thought until its tokens were spent.
    ledger = Ledger(most_cost=0.001)
    with scripted(lambda *_: (200, {}, completion(None, "length", (10, 400)))) as (url, log):
        asking = caller(url, ledger=ledger, prices=Prices(1, 1))
        with pytest.raises(BudgetSpent):
            asking.ask(ASKED, max_tokens=400)
    assert len(log) == 2
    assert (ledger.cost, ledger.completion_tokens) == (pytest.approx(0.00082), 800)


def test_a_reply_that_is_lost_counts_as_paid():
    ledger = Ledger(most_cost=1)
    with scripted(lambda *_: (200, {"Content-Length": 999}, b'{"choices": ')) as (url, _):
        asking = caller(url, ledger=ledger, prices=Prices(1, 1), tries=1)
        with pytest.raises(CompletionError):
            asking.ask(ASKED, max_tokens=400)
    assert ledger.cost == pytest.approx(asking.largest_cost(ASKED, 400))
    ledger = Ledger(most_cost=1)
    with scripted(lambda *_: (503, {}, b"")) as (url, _), pytest.raises(CompletionError):
        caller(url, ledger=ledger, prices=Prices(1, 1), tries=1).ask(ASKED, max_tokens=400)
    with pytest.raises(CompletionError):
        caller("http://127.0.0.1:9/v1", ledger=ledger, prices=Prices(1, 1), tries=1).ask(ASKED)
    assert ledger.cost == 0


def test_a_reply_that_drips_is_given_up():
    ended = threading.Event()

    listening = socket.create_server(("127.0.0.1", 0))

    def drip():
        with listening, listening.accept()[0] as client:
            client.recv(1 << 16)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            with suppress(OSError):
                while not ended.wait(0.05):
                    client.sendall(b" ")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(caller(url, timeout=0.5, tries=1).ask, ASKED)
            with pytest.raises(CompletionError, match="too long"):
                asked.result(timeout=30)
    finally:
        ended.set()
        dripping.join()


def test_requests_are_counted_and_limited():
    with scripted(lambda *_: "ok") as (url, _):
        asking = caller(url, ledger=Ledger(most_requests=1))
        asking.ask(ASKED)
        with pytest.raises(BudgetSpent, match="1 requests"):
            asking.ask(ASKED)


def test_the_pace_is_kept():
    with scripted(lambda *_: "ok") as (url, log):
        asking = caller(url, pace=Pace(per_minute=600))
        started = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: asking.ask([{"role": "user", "content": str(n)}]), range(4)))
    assert log[-1][0] - started >= 0.29


def test_a_stopped_run_waits_for_nothing():
    stop = threading.Event()
    asking = caller("http://127.0.0.1:9/v1", stop=stop, pause=30)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(asking.ask, ASKED)
        time.sleep(0.1)
        stop.set()
        with pytest.raises((StoppedError, CompletionError)):
            waiting.result(timeout=20)


def test_prices_are_checked():
    with pytest.raises(InputError, match="below 0"):
        Prices(-1, 0)
