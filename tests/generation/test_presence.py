from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from openferret.generation.prefix import encode_prefix
from openferret.generation.presence import log_odds, presence_logit, seen_on
from openferret.model.configuration import FerretConfig

NOUNS = ("ball", "", "dog", "man", "bus", "cup", "table")


@pytest.mark.parametrize("asked", ["where", "exists"])
def test_each_kind_of_evidence_has_its_own_fit(asked):
    name = "presence" if asked == "where" else "exists"
    config = FerretConfig(
        **{f"{name}_calibration": (1.0, 2.0, 3.0), f"seen_{name}_calibration": (0.0, 0.0, 1.0, -1.0)}
    )
    assert presence_logit(config, asked, 0.5, 0.5) == pytest.approx(3.5)
    assert presence_logit(config, asked, 0.5, 0.5, seen=0.9) == pytest.approx(log_odds(0.9) - 1)


def test_certainty_is_never_infinite():
    assert log_odds(1.0) == pytest.approx(-log_odds(0.0))
    assert log_odds(1.0) < 10


@pytest.mark.parametrize(
    ("phrase", "seen"),
    [
        ("a ball", 0.1),
        ("two brown DOGS on a sofa", 0.3),
        ("buses", 0.5),
        ("a zebra", None),
        ("", None),
        ("...", None),
    ],
)
def test_a_phrase_is_seen_by_its_head_noun(phrase, seen):
    encoded = SimpleNamespace(nouns=torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]]))
    found = seen_on(encoded, NOUNS, phrase)
    assert found is None if seen is None else found == pytest.approx(seen)
    assert seen_on(SimpleNamespace(nouns=None), NOUNS, phrase) is None
    assert seen_on(encoded, (), phrase) is None


def test_a_noun_is_on_a_picture_unless_no_proposal_is_one(tiny):
    loaded = tiny.loaded("kit")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))
    model, encoded = loaded.model, encode_prefix(loaded.model, loaded.processor, image).encoded
    points, anchors, neighbors = model.model.object_pattern(encoded.object_boxes[0])
    picture = torch.zeros(len(points), dtype=torch.long)
    with torch.no_grad():
        named = model.model.name_regions(encoded, points, anchors, neighbors, picture)
    kept = (encoded.object_scores * encoded.object_distinct)[0]
    expected = 1 - torch.stack([1 - score * one for score, one in zip(kept, named, strict=True)]).prod(0)
    assert encoded.nouns.shape == (1, 7)
    assert torch.allclose(encoded.nouns[0], expected, atol=1e-5)
    assert encoded.at(torch.tensor([0, 0])).nouns.shape == (2, 7)


def test_a_model_without_a_namer_has_seen_nothing(tiny):
    loaded = tiny.loaded("paper")
    image = Image.fromarray(np.zeros((40, 60, 3), np.uint8))
    assert encode_prefix(loaded.model, loaded.processor, image).encoded.nouns is None
