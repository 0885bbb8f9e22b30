from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from openferret import prompts
from openferret.generation.decode import Decoding
from openferret.generation.prefix import encode_prefix
from openferret.generation.questions import write_question
from openferret.train.stages.describing import Describing, score_choices

WORDS = ("ball", "dog", "man", "box", "picture", "image", "region")


@pytest.fixture(params=["ending", "endless"])
def drawn(tiny, monkeypatch, request):
    loaded = tiny.loaded("kit")
    model, processor = loaded.model, loaded.processor
    tokens = [processor.tokenizer.convert_tokens_to_ids(word) for word in WORDS]
    monkeypatch.setattr(model.config, "noun_token_ids", (*tokens, *tokens))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))
    describing = Describing(model, processor)
    # Phrases are the rarest of what a random model writes: all but a few tokens are forbidden.
    few = {*tokens, describing.phrase, describing.box}
    if request.param == "ending":
        few.add(describing.end)
    forbidden = torch.tensor([one for one in range(len(processor.tokenizer)) if one not in few])
    monkeypatch.setattr("openferret.generation.decode.forbidden_tokens", lambda *_: forbidden)
    describing.forbidden = forbidden
    prefix = encode_prefix(model, processor, image)
    written = describing.draw(prefix, 6, Decoding(40, temperature=6.0, seed=2))
    return describing, prefix, written


def test_every_choice_is_as_likely_as_it_was_when_it_was_made(drawn):
    describing, prefix, written = drawn
    seen = prefix.encoded.nouns[0]
    choices = [describing.choices(one, seen) for one in written]
    made = [choice for several in choices for choice in several]
    assert any(choice.seen is not None for choice in made)
    assert any(choice.token == (describing.end if written[0].complete else describing.box) for choice in made)
    for one, several in zip(written, choices, strict=True):
        assert len(several) == len(one.probabilities), "what the locator wrote is no choice"
    model, processor = describing.model, describing.processor
    ids = processor.tokenize(processor.expand_pictures(processor.conversation.opening))
    asked = describing.question(prefix).ids
    with torch.no_grad():
        opening = torch.cat(
            [
                model.model.embed(torch.tensor([ids]), prefix.encoded),
                model.get_input_embeddings()(torch.tensor([asked])),
            ],
            dim=1,
        )[0]
        logits = score_choices(model, opening, written, choices)
        flat = [one for several in choices for one in several]
        said = describing.likelihoods(logits, flat, 1.0)
    was = torch.tensor([each for one in written for each in one.probabilities]).log()
    torch.testing.assert_close(said, was, rtol=1e-3, atol=1e-3)


def test_a_thing_that_was_named_is_not_seen_any_more(drawn):
    describing, prefix, written = drawn
    for one in written:
        before = prefix.encoded.nouns[0].sum()
        for choice in describing.choices(one, prefix.encoded.nouns[0]):
            if choice.seen is not None:
                assert choice.seen.sum() <= before
                before = choice.seen.sum()


def test_the_question_is_the_one_that_descriptions_are_asked_with(drawn):
    describing, prefix, _ = drawn
    asked = describing.question(prefix)
    assert asked.describing
    assert asked.ids == write_question(describing.processor, prompts.DESCRIBE, [], (60, 40)).ids
