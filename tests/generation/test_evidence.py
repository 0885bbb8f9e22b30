from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from openferret import prompts
from openferret.generation.evidence import lay_presence_over, redistribute
from openferret.generation.intents import Sought
from openferret.generation.locating import FoundPhrase


def test_only_the_tokens_in_question_change():
    logits = torch.randn(20, generator=torch.Generator().manual_seed(0))
    before = logits.softmax(0)
    chosen = torch.tensor([3, 7, 11])
    redistribute(logits, chosen, torch.tensor([0.0, 2.0, -1.0]))
    after = logits.softmax(0)
    rest = torch.tensor([k for k in range(20) if k not in (3, 7, 11)])
    assert torch.allclose(after[rest], before[rest], atol=1e-6)
    assert float(after[chosen].sum()) == pytest.approx(float(before[chosen].sum()), abs=1e-6)
    assert after[7] > after[3] > after[11]


@pytest.mark.parametrize("presence", [0.02, 0.98])
@pytest.mark.parametrize("kind", ["exists", "where"])
def test_the_locator_decides_whether_a_thing_is_there(tiny, monkeypatch, presence, kind):
    loaded = tiny.loaded("kit")
    found = FoundPhrase(((0.1, 0.1, 0.5, 0.5),), (0.5,), presence)
    monkeypatch.setattr("openferret.generation.evidence.find_phrases", lambda *_, **__: [found])
    config = loaded.model.config
    monkeypatch.setattr(config, "exists_calibration", (0.0, 1.0, 0.0))
    logits = torch.zeros(1, config.text_config.vocab_size)
    encoded = SimpleNamespace(nouns=None)
    lay_presence_over(loaded.model, loaded.processor, encoded, [Sought("a dog", kind)], logits)
    yes, no = (
        (loaded.processor.tokenize(prompts.YES)[0], loaded.processor.tokenize(prompts.NO)[0])
        if kind == "exists"
        else (config.phrase_token_id, loaded.processor.tokenize(prompts.ABSENT)[0])
    )
    assert (logits[0, yes] > logits[0, no]) == (presence > 0.5)
