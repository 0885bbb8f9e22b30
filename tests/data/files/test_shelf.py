import sqlite3

import pytest

from openferret.data.files import shelf as module
from openferret.data.files.shelf import Shelf
from openferret.data.problems import Problems
from openferret.errors import InputError


def test_items_come_back_by_key_in_the_order_they_were_put():
    with Shelf() as shelf:
        for number in range(5000):
            shelf.put(str(number % 7), str(number))
        assert shelf.take("3") == [str(number) for number in range(3, 5000, 7)]
        shelf.put("3", "later")
        assert shelf.take("3")[-1] == "later"
        assert shelf.take("absent") == []
        assert set(shelf) == set("0123456")


def test_an_empty_shelf():
    with Shelf() as shelf:
        assert shelf.take("a") == []
        assert list(shelf) == []


def test_a_full_disk_is_told():
    with Shelf() as shelf:
        shelf._store.execute("COMMIT")
        shelf._store.execute("PRAGMA max_page_count=2").fetchall()
        for number in range(module._BATCH - 1):
            shelf.put("a", "x" * 100 + str(number))
        with pytest.raises(InputError, match=r"temporary folder .*full"):
            shelf.put("a", "the last of a batch")


def test_problems_are_counted_and_the_first_of_each_kind_kept():
    problems = Problems(kept=2)
    for number in range(5):
        problems.add("empty box", f"line {number}", "no area")
    problems.add("other", "line 9", "odd")
    assert problems.total == 6
    assert [problem.place for problem in problems] == ["line 0", "line 1", "line 9"]
    assert problems.lines() == ["5 x empty box, as in line 0: no area", "1 x other, as in line 9: odd"]
    with pytest.raises(InputError, match="line 1: no area"):
        Problems(strict=True).add("empty box", "line 1", "no area")


def test_a_store_that_cannot_be_set_up_is_closed(monkeypatch):
    class Store:
        closed = False

        def execute(self, _):
            raise sqlite3.OperationalError("unable to open database file")

        def close(self):
            self.closed = True

    store = Store()
    monkeypatch.setattr(sqlite3, "connect", lambda *_, **__: store)
    with pytest.raises(InputError, match="temporary folder"):
        Shelf()
    assert store.closed
