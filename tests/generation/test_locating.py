from __future__ import annotations

from itertools import combinations

import pytest
import torch

from openferret.eval.metrics.boxes import intersection_over_union
from openferret.generation.locating import find_phrases, rank_phrases


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


def test_ranked_boxes_begin_with_the_hull_and_are_all_different(tiny):
    loaded = tiny.loaded("kit")
    encoded = loaded.model.model.encode_pictures(torch.randn(1, 3, 64, 64))
    phrases = [loaded.processor.tokenize(text) for text in ("dog", "the red ball in the box")]
    ranked = rank_phrases(loaded.model, encoded, phrases, most=5, iou=0.7)
    hulls = find_phrases(loaded.model, encoded, phrases, merged=True)
    for boxes, hull, phrase in zip(ranked, hulls, phrases, strict=True):
        assert boxes[0] == pytest.approx(hull.boxes[0], abs=1e-6)
        assert 1 < len(boxes) <= 5
        assert all(intersection_over_union(*two) <= 0.7 + 1e-6 for two in combinations(boxes, 2))
        alone = rank_phrases(loaded.model, encoded, [phrase], most=2, iou=0.7)[0]
        assert len(alone) == 2
        assert alone[1] == pytest.approx(boxes[1], abs=1e-5)
