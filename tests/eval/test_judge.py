import pytest

from openferret.errors import InputError
from openferret.eval.judge import Judge, read_prompts, read_ratings
from openferret.eval.transport import ChatServer


def judge(url, cache=None):
    return Judge(ChatServer(url, "judge", pause=0.01, timeout=30, tries=2), cache)


def test_both_orders_are_asked_and_averaged(serve):
    """A judge that always prefers who comes first gives both the same."""
    with serve(lambda *_: "8 6\nThe first is better.") as (url, requests):
        verdict = judge(url).rate("context", "question?", "REFERENCE", "MODEL")
    assert (verdict.reference, verdict.model) == (7, 7)
    texts = [body["messages"][1]["content"] for _, body, _ in requests]
    assert texts[0].index("REFERENCE") < texts[0].index("MODEL")
    assert texts[1].index("MODEL") < texts[1].index("REFERENCE")


def test_who_is_better_stays_better_in_both_orders(serve):
    def fair(_, body):
        text = body["messages"][1]["content"]
        return "9 3" if text.index("REFERENCE") < text.index("MODEL") else "3 9"

    with serve(fair) as (url, _):
        verdict = judge(url).rate("", "?", "REFERENCE", "MODEL")
    assert (verdict.reference, verdict.model) == (9, 3)


@pytest.mark.parametrize("line", ["8 7", "8, 7", " 8.0   7.0 ", "8/10 7/10", "8;7", "\n\n8 7\nbecause 1 2"])
def test_ratings_as_judges_write_them(line):
    assert list(read_ratings(line)) == [8, 7]


@pytest.mark.parametrize(
    "line", ["", "I cannot say", "8", "8 7 6", "11 3", "0 5", "Assistant 1: 8", "nan 5", "8" * 10**6]
)
def test_what_is_no_rating_is_a_failure(line):
    with pytest.raises(InputError, match="two numbers"):
        read_ratings(line)


@pytest.mark.parametrize("said", [500, "I refuse.", b"nonsense", "99 1"])
def test_a_judge_that_misbehaves_is_a_failure_with_its_reason(serve, said):
    with serve(lambda *_: said) as (url, _):
        assert judge(url).rate("", "?", "a", "b").failure


def test_a_failure_in_one_order_is_a_failure(serve):
    with serve(lambda number, _: "8 7" if number == 0 else "no idea") as (url, _):
        assert judge(url).rate("", "?", "a", "b").failure


def test_the_same_is_asked_once_and_failures_are_asked_again(serve, tmp_path):
    cache = tmp_path / "cache" / "judge.jsonl"
    with serve(lambda number, _: "sorry" if number == 0 else "8 7") as (url, requests):
        assert judge(url, cache).rate("c", "?", "a", "b").failure
        assert judge(url, cache).rate("c", "?", "a", "b").failure is None
        assert len(requests) == 3
        assert judge(url, cache).rate("c", "?", "a", "b").model == 7.5
        assert len(requests) == 3
        cache.write_bytes(cache.read_bytes()[:-5])  # killed while writing
        assert judge(url, cache).rate("c", "?", "a", "b").model == 7.5
        assert len(requests) == 4


def test_published_prompts(shared, tmp_path):
    import json

    file = shared / "data" / "formats" / "ferret_bench" / "rule.json"
    assert set(read_prompts(json.loads(file.read_text()), file)) == {
        "refer_desc",
        "refer_reason",
        "ground_conv",
    }
    with pytest.raises(InputError, match="not a rule file"):
        read_prompts([1], file)
