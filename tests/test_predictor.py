from __future__ import annotations

import numpy as np
import pytest
import torch

from openferret import Ferret
from openferret.errors import InputError
from openferret.regions import Box, Point

PICTURE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    where = tmp_path_factory.mktemp("models") / "tiny-kit"
    loaded = tiny.loaded("kit")
    loaded.model.save_pretrained(where)
    loaded.processor.save_pretrained(where)
    return where


def test_a_model_folder_answers_as_the_model_it_was_saved_from(tiny, folder):
    ferret, memory = Ferret.load(folder, engine="reference"), Ferret(tiny.loaded("kit"))
    assert ferret.name == "tiny-kit"
    assert ferret.loaded.model.dtype == torch.float32
    assert not ferret.loaded.model.training
    opened, kept = ferret.encode(PICTURE), memory.encode(PICTURE)
    assert opened.refer(Box(5, 5, 40, 30)).text == kept.refer(Box(5, 5, 40, 30)).text
    found, expected = (
        one.ground("a dog", merge=True, threshold=0.0).mentions[0].boxes[0] for one in (opened, kept)
    )
    np.testing.assert_allclose(found.pixels, expected.pixels, rtol=1e-3)
    assert found.score == pytest.approx(expected.score, rel=1e-3)


def test_the_shortcuts_are_the_scenes_verbs(folder):
    ferret = Ferret.load(str(folder), dtype=torch.bfloat16)
    assert ferret.loaded.model.dtype == torch.bfloat16
    scene, length = ferret.encode(PICTURE), {"max_new_tokens": 3}
    pairs = [
        (ferret.refer(PICTURE, Point(5, 5), **length), scene.refer(Point(5, 5), **length)),
        (
            ferret.ground(PICTURE, ["a dog"], merge=True, **length),
            scene.ground(["a dog"], merge=True, **length),
        ),
        (ferret.describe(PICTURE, **length), scene.describe(**length)),
        (ferret.detect(PICTURE, 0.0, **length), scene.detect(0.0, **length)),
        (
            ferret.ask(PICTURE, "is [0] red?", [Point(5, 5)], **length),
            scene.ask("is [0] red?", [Point(5, 5)], **length),
        ),
    ]
    for once, again in pairs:
        assert (once.text, once.mentions) == (again.text, again.mentions)


def test_the_seed_makes_answers_repeatable(folder):
    answers = [Ferret.load(folder, seed=seed).encode(PICTURE).refer(Box(5, 5, 40, 30)) for seed in (0, 0, 7)]
    scores = [answer.mentions[0].boxes[0].score for answer in answers if answer.mentions]
    assert answers[0].text == answers[1].text
    assert scores[:1] == scores[1:2]
    assert len(scores) < 3 or scores[2] != scores[0]


@pytest.mark.parametrize("size", [(1, 1), (4000, 2), (3, 900)])
def test_pictures_of_any_shape_can_be_asked(tiny, size):
    scene = Ferret(tiny.loaded("kit")).encode(np.zeros((size[1], size[0], 3), np.uint8))
    assert (scene.width, scene.height) == size
    answer = scene.refer(Point(0, 0), max_new_tokens=2)
    assert (answer.width, answer.height) == size
    assert len(scene.ground("a dog", threshold=0.0).mentions[0].boxes) >= 1


def test_what_is_no_picture_is_refused(tiny):
    with pytest.raises(InputError):
        Ferret(tiny.loaded("kit")).encode(b"not a picture")
