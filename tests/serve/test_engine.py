import threading
from concurrent.futures import CancelledError

import pytest

from openferret.generation.decode import Decoding, decode
from openferret.predictor import Ferret
from openferret.regions import Box, Mask, Point
from openferret.serve import work
from openferret.serve.engine import Engine, EngineSettings
from openferret.serve.errors import ServeError
from openferret.serve.jobs import Job
from openferret.serve.rows import AbandonedError, Row, write_rows

QUESTIONS = ["what is this", "where is the dog", "describe the picture", "a", "red ball", "how many"]


def said(job):
    return job.result.result(60).answers[0].to_dict() | {"timings": {}}


@pytest.fixture(scope="module")
def scene(lively, make):
    return Ferret(lively).encode(make.picture())


def rows_of(scene, lengths):
    return [
        Row(work.write_first(scene, text, []), most) for text, most in zip(QUESTIONS, lengths, strict=False)
    ]


def test_rows_are_written_with_the_same_tokens_together_and_alone_each_with_its_own_length(scene):
    lengths = [3, 20, 7, 1, 20, 12]
    together = write_rows(scene, rows_of(scene, lengths), 0.0, 0)
    for row, written in zip(rows_of(scene, lengths), together, strict=True):
        model, processor = scene.loaded.model, scene.loaded.processor
        alone = decode(model, processor, scene.prefix, [row.question], Decoding(max_new_tokens=row.most))[0]
        assert written.ids == alone.ids
        assert written.complete == alone.complete
        assert written.confidence == pytest.approx(alone.confidence, rel=1e-4)
        assert written.box_scores == pytest.approx(alone.box_scores, abs=1e-4)
    assert len({one.ids for one in together}) == len(lengths), "the test model says one thing to all"


def test_a_row_that_nobody_waits_for_ends_and_its_neighbours_go_on(scene):
    rows = rows_of(scene, [20, 20, 20])
    rows[1].gone = lambda: len(rows[1].ids) >= 2
    together = write_rows(scene, rows, 0.0, 0)
    assert len(together[1].ids) < 8
    assert together[0].ids == write_rows(scene, rows_of(scene, [20]), 0.0, 0)[0].ids


def test_a_batch_for_nobody_is_abandoned(scene):
    rows = rows_of(scene, [20])
    rows[0].gone = lambda: len(rows[0].ids) >= 1
    with pytest.raises(AbandonedError):
        write_rows(scene, rows, 0.0, 0)
    assert len(rows[0].ids) < 8


def test_answers_are_those_of_the_library(new_engine, scene, make):
    engine = new_engine()
    regions = [Box(8, 8, 40, 40), Point(3, 4)]
    asked = {
        "refer": (work.refer(regions, None, 9), scene.refer_many(regions, max_new_tokens=9)),
        "about": (work.refer(regions[:1], "what?", 9), [scene.refer(regions[0], "what?", max_new_tokens=9)]),
        "ask": (work.ask("is [0] a dog", regions[:1], 9), [scene.ask("is [0] a dog", regions[:1], max_new_tokens=9)]),
        "describe": (work.describe(9), [scene.describe(max_new_tokens=9)]),
        "drafts": (work.describe(9, 4), [scene.describe(drafts=4, max_new_tokens=9)]),
        "ground": (work.ground(["a dog", "a ball"], False, 0.0), [scene.ground(["a dog", "a ball"], threshold=0)]),
        "detect": (work.detect(0.1), [scene.detect(0.1)]),
    }  # fmt: skip
    for given, expected in asked.values():
        job = Job(make.held(), "a", given)
        engine.submit(job)
        done = job.result.result(60)
        assert [one.text for one in done.answers] == [one.text for one in expected]
        assert [one.mentions for one in done.answers] == [one.mentions for one in expected]
        assert set(done.seconds) == {"queue", "encode", "prefill", "decode"}


def test_requests_on_one_picture_are_written_together_with_the_same_answers(new_engine, make):
    alone = new_engine(EngineSettings(rows=1))
    together = new_engine(start=False)
    answers = []
    for engine in (alone, together):
        jobs = [Job(make.held(n % 2), f"c{n}", work.ask(text, (), 12)) for n, text in enumerate(QUESTIONS)]
        for job in jobs:
            engine.submit(job)
        if engine is together:
            engine.start()
        answers.append([said(job)["text"] for job in jobs])
    assert answers[0] == answers[1]
    batches = together.metrics.registry.get_sample_value("openferret_batch_rows_count")
    assert batches == 2, "six questions on two pictures take two batches"


def test_a_picture_is_read_once(new_engine, make):
    engine = new_engine()
    for _ in range(3):
        job = Job(make.held(), "a", work.ask("a dog", (), 2))
        engine.submit(job)
        said(job)
    value = engine.metrics.registry.get_sample_value
    assert [value("openferret_pictures_total", {"cache": one}) for one in ("miss", "hit")] == [1, 2]
    assert value("openferret_cache_bytes") > 0


def test_a_poisoned_request_harms_no_neighbour(new_engine, make, monkeypatch):
    from openferret.serve import engine as module

    engine = new_engine(start=False)
    good = [Job(make.held(), f"c{n}", work.ask(text, (), 6)) for n, text in enumerate(QUESTIONS[:3])]
    poison = Job(make.held(), "evil", work.ask("poison", (), 13))
    write = module.write_rows

    def fails_on_poison(scene, rows, *how):
        if any(row.most == 13 for row in rows):
            raise RuntimeError("secret of the inside")
        return write(scene, rows, *how)

    monkeypatch.setattr(module, "write_rows", fails_on_poison)
    for job in [good[0], poison, *good[1:]]:
        engine.submit(job)
    engine.start()
    assert all(said(job)["text"] for job in good)
    with pytest.raises(ServeError) as error:
        poison.result.result(60)
    assert (error.value.status_code, error.value.code) == (500, "internal_error")
    assert "secret" not in str(error.value.body())


@pytest.mark.parametrize(
    "bad",
    [
        work.ask("", (), 4),
        work.ask("what is [3]", (), 4),
        work.refer([Mask([[1, 1], [1, 1]])], None, 4),
        work.ground([" "], False, None),
    ],
)
def test_a_question_that_cannot_be_used_is_422_and_its_neighbours_are_answered(new_engine, make, bad):
    engine = new_engine(start=False)
    good, wrong = Job(make.held(), "a", work.ask("a dog", (), 4)), Job(make.held(), "b", bad)
    engine.submit(wrong)
    engine.submit(good)
    engine.start()
    with pytest.raises(ServeError) as error:
        wrong.result.result(60)
    assert (error.value.status_code, error.value.code) == (422, "invalid_input")
    assert said(good)


def test_cancelling_ends_a_long_answer_and_frees_the_engine(new_engine, make):
    engine = new_engine()
    begun = threading.Event()
    job = Job(make.held(), "a", work.ask("a", (), 512), on_text=lambda text: begun.set())
    engine.submit(job)
    assert begun.wait(60)
    engine.cancel(job)
    with pytest.raises(CancelledError):
        job.result.result(60)
    after = Job(make.held(), "a", work.ask("a dog", (), 2))
    engine.submit(after)
    assert said(after)
    assert engine.metrics.registry.get_sample_value("openferret_cancelled_total") == 1
    assert engine.metrics.registry.get_sample_value("openferret_tokens_total") < 100


def test_streamed_text_adds_up_to_the_answer(new_engine, make):
    engine = new_engine(start=False)
    pieces = [[] for _ in QUESTIONS]
    jobs = [
        Job(make.held(), "a", work.ask(text, (), 30), on_text=pieces[n].append)
        for n, text in enumerate(QUESTIONS)
    ]
    for job in jobs:
        engine.submit(job)
    engine.start()
    for job, own in zip(jobs, pieces, strict=True):
        text = said(job)["text"]
        assert "".join(own) == text
        assert len(own) > 1


def test_drafts_for_nobody_are_abandoned_and_the_next_is_answered(new_engine, make, monkeypatch):
    from openferret.serve import work as module

    engine = new_engine()
    left = Job(make.held(), "a", work.describe(64, 6))
    batches = []

    def leaves(scene, rows, *how):
        batches.append(rows)
        if len(batches) == 2:  # the first draft is written
            left.leave()
        return write_rows(scene, rows, *how)

    monkeypatch.setattr(module, "write_rows", leaves)
    other = Job(make.held(), "b", work.ask("a dog", (), 4))
    engine.submit(left)
    engine.submit(other)
    assert said(other)["text"]
    assert [len(rows) for rows in batches] == [1, 5]
    assert not any(row.ids for row in batches[1])
    assert not left.result.done()


def test_those_who_wait_are_told_when_the_engine_closes(lively, make):
    engine = Engine(lively)
    job = Job(make.held(), "a", work.reading())
    engine.submit(job)
    engine.close(1)
    with pytest.raises(ServeError) as error:
        job.result.result(60)
    assert error.value.status_code == 503
    assert not engine.ready


@pytest.mark.parametrize("kind", ["list", "object"])
def test_the_memory_of_a_picture_is_counted_whatever_its_engine_keeps(kind):
    from types import SimpleNamespace

    import numpy as np
    import torch

    from openferret.serve.engine import _bytes_of

    layers = [torch.zeros(10), {"values": np.zeros(5)}, None, "text"]
    kept = layers if kind == "list" else SimpleNamespace(past=SimpleNamespace(layers=layers), length=3)
    assert _bytes_of(kept) == 80


def test_it_is_ready_only_after_a_warm_up_that_worked(new_engine, make, monkeypatch):
    broken = new_engine(start=False)
    monkeypatch.setattr(broken.ferret, "encode", lambda image: 1 / 0)
    broken.start()
    make.wait_for(lambda: broken.metrics.registry.get_sample_value("openferret_failures_total") == 1)
    assert not broken.ready
    whole = new_engine(start=False)
    assert not whole.ready
    whole.start()
    make.wait_for(lambda: whole.ready)
