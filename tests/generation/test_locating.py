from __future__ import annotations

import pytest
import torch

from openferret.generation.locating import find_phrases


def test_phrases_are_found_together_as_alone(tiny):
    loaded = tiny.loaded("kit")
    torch.manual_seed(0)
    encoded = loaded.model.model.encode_pictures(torch.randn(1, 3, 64, 64))
    phrases = [loaded.processor.tokenize(text) for text in ("dog", "the red ball in the box")]
    for merged in (False, True):
        together = find_phrases(loaded.model, encoded, phrases, merged=merged)
        for phrase, found in zip(phrases, together, strict=True):
            alone = find_phrases(loaded.model, encoded, [phrase], merged=merged)[0]
            assert found.presence == pytest.approx(alone.presence, abs=1e-5)
            assert len(found.boxes) == len(alone.boxes) >= 1
            assert found.scores == pytest.approx(alone.scores, abs=1e-5)
            assert list(found.scores) == sorted(found.scores, reverse=True)
            for box in found.boxes:
                assert 0 <= box[0] <= box[2] <= 1
                assert 0 <= box[1] <= box[3] <= 1
            if merged:
                assert found.scores == (found.presence,)


def test_a_higher_threshold_leaves_fewer_instances_but_never_none(tiny):
    loaded = tiny.loaded("kit")
    encoded = loaded.model.model.encode_pictures(torch.randn(1, 3, 64, 64))
    phrase = [loaded.processor.tokenize("dog")]
    counts = [
        len(find_phrases(loaded.model, encoded, phrase, threshold=one)[0].boxes) for one in (0.0, 0.5, 1.0)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 1
