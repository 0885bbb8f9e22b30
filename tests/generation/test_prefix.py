from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from openferret.errors import InputError
from openferret.generation.prefix import Continuation, encode_prefix
from openferret.regions import Box, Point

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))


@pytest.fixture(params=["kit", "paper"])
def loaded(request, tiny):
    return tiny.loaded(request.param)


def test_a_cached_prefix_says_what_the_whole_prompt_says(loaded):
    conversation, region = loaded.processor.conversation, Box(5, 5, 40, 30)
    words = f"what is {loaded.processor.region_words(region, 60, 40)}?"
    whole = loaded.processor(IMAGE, conversation.prompt(words), [region])
    prefix = encode_prefix(loaded.model, loaded.processor, IMAGE)
    rows = Continuation(loaded.model, loaded.processor, prefix, 1)
    logits = rows.append(
        [loaded.processor.tokenize(conversation.first + words + conversation.answer)], [region]
    )
    assert rows.lengths == [whole["input_ids"].shape[1]]
    torch.testing.assert_close(logits[0], loaded.model(**whole).logits[0, -1].float(), rtol=1e-3, atol=1e-4)


def test_rows_of_any_length_grow_together_as_alone_and_leave_the_prefix_as_it_was(loaded):
    prefix = encode_prefix(loaded.model, loaded.processor, IMAGE)
    before = [layer.keys.clone() for layer in prefix.past.layers]
    region = loaded.model.config.region_token_id
    steps = [([7, 8, region], [9]), ([10], [11, 12, region, 13, 14]), ([15, 16], [17])]
    regions = [[Point(1, 1)], [Box(0, 0, 30, 30)], []]
    together = Continuation(loaded.model, loaded.processor, prefix, 2)
    for row in (0, 1):
        alone = Continuation(loaded.model, loaded.processor, prefix, 1)
        for index, step in enumerate(steps):
            shown = regions[index] if region in step[row] else []
            single = alone.append([step[row]], shown)
            if row == 0:
                both = together.append(list(step), regions[index])
        torch.testing.assert_close(both[row], single[0], rtol=1e-3, atol=1e-4)
    together.keep([1])
    assert together.lengths == alone.lengths
    torch.testing.assert_close(together.append([[5]])[0], alone.append([[5]])[0], rtol=1e-3, atol=1e-4)
    assert prefix.past.get_seq_length() == prefix.length
    for layer, keys in zip(prefix.past.layers, before, strict=True):
        assert torch.equal(layer.keys, keys)


def test_a_language_model_too_small_for_a_picture_is_refused(tiny, monkeypatch):
    loaded = tiny.loaded("paper")
    monkeypatch.setattr(loaded.model.config.text_config, "max_position_embeddings", 20)
    with pytest.raises(InputError, match="longer context"):
        encode_prefix(loaded.model, loaded.processor, IMAGE)


def test_a_model_that_looks_closer_hears_what_crops_show(tiny, monkeypatch):
    loaded = tiny.loaded("closer kit")
    prefix = encode_prefix(loaded.model, loaded.processor, IMAGE)
    rows = Continuation(loaded.model, loaded.processor, prefix, 1)
    regions = [Box(0, 0, 30, 20), Point(40, 30)]
    both = rows.nouns(regions)
    monkeypatch.setattr(loaded.model.config, "closer_look_weight", 0.0)
    alone = rows.nouns(regions)
    assert both.shape == alone.shape == (2, 7)
    assert torch.allclose(both.sum(-1), torch.ones(2), atol=1e-4)
    assert not torch.allclose(both, alone, atol=1e-3)
    other = encode_prefix(loaded.model, loaded.processor, IMAGE.crop((0, 0, 30, 20)))
    assert other.image is not None
    assert other.image.size == (30, 20)


def test_a_model_that_does_not_look_closer_keeps_no_picture(tiny):
    loaded = tiny.loaded("kit")
    assert encode_prefix(loaded.model, loaded.processor, IMAGE).image is None
