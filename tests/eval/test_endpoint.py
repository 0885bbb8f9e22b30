import base64
import io
import time

import pytest
from PIL import Image

from openferret.errors import InputError
from openferret.eval.dialects import read_kosmos, read_qwen
from openferret.eval.endpoint import EndpointModel
from openferret.eval.questions import Question, Spot
from openferret.eval.transport import ChatServer, TransportError

POINTED = Question("a", "p", "ask", "Is [0] a dog?", spots=(Spot("box", (0.1, 0.2, 0.5, 0.6)),))
GROUND = Question("g", "p", "ground", phrases=("a dog", "a cat"), merge=True)


def server(url, **how):
    return ChatServer(url, "peer", pause=0.01, timeout=30, **how)


def ask(model, *questions, size=(80, 40)):
    return model.answer(model.look(Image.new("RGB", size)), questions)


def test_a_question_carries_picture_words_and_key(serve):
    with serve(lambda *_: "Yes, [0, 0, 500, 500].") as (url, requests):
        (reply,) = ask(EndpointModel(server(url, key="secret")), POINTED)
    path, body, key = requests[0]
    assert (path, key, body["model"], body["temperature"]) == (
        "/v1/chat/completions",
        "Bearer secret",
        "peer",
        0,
    )
    picture, words = body["messages"][0]["content"]
    data = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (80, 40)
    assert "Is region [100, 200, 500, 600] a dog?" in words["text"]
    assert reply.raw == "Yes, [0, 0, 500, 500]."
    assert reply.boxes


def test_grounding_in_another_models_words(serve):
    said = '```json\n[{"bbox_2d": [0, 0, 500, 1000], "label": "a dog"}]\n```'
    with serve(lambda *_: said) as (url, requests):
        (reply,) = ask(EndpointModel(server(url), "qwen"), GROUND)
    words = requests[0][1]["messages"][0]["content"][1]["text"]
    assert "a dog, a cat" in words
    assert "bbox_2d" in words
    assert "not in the picture" in words
    assert reply.answer.mentions[0].phrase == "a dog"
    assert reply.boxes == [(0.0, 0.0, 0.5, 1.0)]


@pytest.mark.parametrize(
    "said", [500, 429, b"<html>", b"", b"[" * 100_000, b'{"choices": []}', "   ", 404, 302]
)
def test_what_misbehaves_is_a_failed_reply_in_one_line(serve, said):
    with serve(lambda *_: said) as (url, _):
        (reply,) = ask(EndpointModel(server(url, tries=2)), POINTED)
    assert reply.answer is None
    assert reply.error
    assert "\n" not in reply.error


def test_a_region_that_is_none_fails_alone(serve):
    nowhere = Question("b", "p", "ask", "Is [0] a dog?", spots=(Spot("point", (float("nan"), 0.2)),))
    with serve(lambda *_: "Yes") as (url, requests):
        replies = ask(EndpointModel(server(url)), nowhere, POINTED)
    assert replies[0].answer is None
    assert replies[0].error
    assert replies[1].text == "Yes"
    assert len(requests) == 1


def test_a_passing_failure_is_tried_again_and_a_lasting_one_is_not(serve):
    with serve(lambda number, _: 503 if number == 0 else "fine") as (url, requests):
        assert server(url).chat([]) == "fine"
        assert len(requests) == 2
    with serve(lambda *_: 401) as (url, requests):
        with pytest.raises(TransportError, match="401"):
            server(url).chat([])
        assert len(requests) == 1


def test_a_server_that_asks_to_wait_is_given_the_time(monkeypatch):
    answers = iter(
        [
            TransportError("HTTP 429", may_pass=True, wait=7.0),
            b'{"choices": [{"message": {"content": "Yes"}}]}',
        ]
    )

    def post(*_):
        if isinstance(answer := next(answers), TransportError):
            raise answer
        return answer

    waited = []
    monkeypatch.setattr("openferret.eval.transport.post_chat", post)
    monkeypatch.setattr("openferret.eval.transport.time.sleep", waited.append)
    assert server("http://127.0.0.1:1/v1").chat([]) == "Yes"
    assert waited == [7.0]


def test_a_redirect_is_not_followed(serve):
    with serve(lambda *_: 307) as (url, requests):
        with pytest.raises(TransportError, match="307"):
            server(url, tries=1, key="secret").chat([])
        assert len(requests) == 1


def test_a_server_that_hangs_or_is_not_there_is_told(serve):
    def hang(*_):
        time.sleep(2)
        return "late"

    with serve(hang) as (url, _), pytest.raises(TransportError, match=r"(?i)time"):
        ChatServer(url, "m", timeout=0.1, tries=1).chat([])
    with pytest.raises(TransportError):
        ChatServer("http://127.0.0.1:9/v1", "m", timeout=1, tries=1).chat([])


@pytest.mark.parametrize(
    "url", ["ftp://host/v1", "host:80", "file:///etc/passwd", "http://", "http://me:pw@host"]
)
def test_only_web_addresses(url):
    with pytest.raises(InputError, match="http"):
        ChatServer(url, "m")


def test_dialects_are_linear_and_tolerant():
    started = time.process_time()
    for text in (
        "{" * 500_000,
        '{"bbox_2d": [' * 50_000,
        "<object>" * 100_000,
        "<patch_index_0001>" * 50_000,
        "[" * 10**6,
    ):
        read_qwen(text, 10, 10)
        read_kosmos(text, 10, 10)
    assert time.process_time() - started < 8
    assert read_qwen('{"bbox_2d": [1, 2], "label": "x"}', 10, 10).mentions == ()
    assert read_qwen("just words", 10, 10).text == "just words"


def test_an_unknown_dialect_is_named():
    with pytest.raises(InputError, match="there is no dialect"):
        EndpointModel(ChatServer("http://h/v1", "m"), "latin")
