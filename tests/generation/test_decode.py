from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from openferret.answer import parse_answer
from openferret.errors import InputError
from openferret.generation.decode import Decoding, decode, unit_box_bins
from openferret.generation.locating import find_phrases
from openferret.generation.prefix import encode_prefix
from openferret.generation.questions import write_question
from openferret.regions import Point

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))
TEXTS = ("what is [0]?", "where is the red ball in the picture?", "describe the picture.", "a dog")


class Script(nn.Module):
    """A head that wants one token after the other, for each row that is still being written."""

    def __init__(self, processor, *answers):
        super().__init__()
        self.rows = [processor.tokenize(answer) for answer in answers]
        self.size = len(processor.tokenizer)

    def forward(self, hidden):
        wanted = torch.zeros(len(hidden), 1, self.size)
        self.rows = [row for row in self.rows if row]
        for place, row in enumerate(self.rows):
            wanted[place, 0, row.pop(0)] = 9.0
        return wanted


@pytest.fixture(params=["kit", "paper"])
def loaded(request, tiny):
    return tiny.loaded(request.param)


@pytest.fixture
def kit(tiny):
    return tiny.loaded("kit")


def ask(loaded, texts, head=None, on_token=None, **how):
    """Answers; `head` takes the place of the model's own meanwhile."""
    prefix = encode_prefix(loaded.model, loaded.processor, IMAGE)
    questions = [write_question(loaded.processor, text, [Point(9, 9)], IMAGE.size) for text in texts]
    own = loaded.model.lm_head
    loaded.model.lm_head = own if head is None else head
    try:
        return decode(loaded.model, loaded.processor, prefix, questions, Decoding(**how), on_token)
    finally:
        loaded.model.lm_head = own


def test_questions_asked_together_are_answered_as_alone(loaded):
    together = ask(loaded, TEXTS, max_new_tokens=10)
    for text, answer in zip(TEXTS, together, strict=True):
        alone = ask(loaded, [text], max_new_tokens=10)[0]
        assert answer.ids == alone.ids
        np.testing.assert_allclose(answer.probabilities, alone.probabilities, rtol=1e-3)
    assert all(len(one.ids) > 0 for one in together)


def test_a_phrase_gets_the_locators_boxes_and_its_scores(kit):
    script = Script(kit.processor, "the <phrase>red ball<box> is<|im_end|>")
    answer = ask(kit, ["where is the ball?"], script, instance_threshold=0.5)[0]
    assert answer.complete
    encoded = encode_prefix(kit.model, kit.processor, IMAGE).encoded
    found = find_phrases(kit.model, encoded, [kit.processor.tokenize("red ball")], threshold=0.5)[0]
    parsed = parse_answer(answer.text, *IMAGE.size, scores=answer.box_scores)
    assert parsed.text == "the red ball is"
    assert parsed.mentions[0].phrase == "red ball"
    expected = sorted(sorted(zip(found.boxes, found.scores, strict=True), key=lambda pair: -pair[1])[:8])
    assert [box.score for box in parsed.mentions[0].boxes] == pytest.approx([score for _, score in expected])
    for box, (unit, _) in zip(parsed.mentions[0].boxes, expected, strict=True):
        np.testing.assert_allclose(box.normalized, unit, atol=2e-3)
    # The language model's choices were: the, " ", <phrase>, red, " ", ball, <box>, " ", is, <|im_end|>.
    assert len(answer.probabilities) == 10


def test_merged_there_is_one_box_and_its_score_is_the_presence(kit):
    script = Script(kit.processor, "<phrase>dog<box><|im_end|>")
    answer = ask(kit, ["where is the dog?"], script, merged=True)[0]
    encoded = encode_prefix(kit.model, kit.processor, IMAGE).encoded
    found = find_phrases(kit.model, encoded, [kit.processor.tokenize("dog")], merged=True)[0]
    assert answer.box_scores == pytest.approx([found.presence])
    first = kit.model.config.first_location_token_id
    assert answer.ids[-4:] == tuple(first + one for one in unit_box_bins(found.boxes[0]))


def test_rows_with_and_without_boxes_do_not_disturb_each_other(kit):
    answers = [
        "a <phrase>dog<box> and <phrase>man<box>.<|im_end|>",
        "no<|im_end|>",
        "yes the man is in a box<|im_end|>",
    ]
    written = ask(kit, TEXTS[:3], Script(kit.processor, *answers))
    assert [parse_answer(one.text, 60, 40).text for one in written] == [
        "a dog and man.",
        "no",
        "yes the man is in a box",
    ]
    assert len(parse_answer(written[0].text, 60, 40).mentions) == 2


def test_boxes_are_valid_by_construction(kit):
    config = kit.model.config
    # A head that wants boxes and locations at any price, with and without a phrase.
    wild = nn.Linear(64, config.text_config.vocab_size, bias=True)
    with torch.no_grad():
        wild.weight.mul_(0.1)
        wild.bias.zero_()
        wild.bias[[config.box_token_id, config.phrase_token_id]] = 5.0
        wild.bias[config.first_location_token_id :] = 8.0
        wild.bias[[config.image_token_id, config.region_token_id, config.object_token_id]] = 9.0
    for seed in range(3):
        ids = ask(kit, TEXTS[:1], wild, temperature=1.0, seed=seed, max_new_tokens=60)[0].ids
        first = config.first_location_token_id
        for place, token in enumerate(ids):
            if token == config.box_token_id:
                four = [one - first for one in ids[place + 1 : place + 5]]
                assert all(0 <= one < 1000 for one in four)
                assert four[0] <= four[2]
                assert four[1] <= four[3]
        assert sum(token >= first for token in ids) == 4 * ids.count(config.box_token_id)
        assert not {config.image_token_id, config.region_token_id, config.object_token_id} & set(ids)


def test_the_length_is_kept_and_the_context_too(loaded, monkeypatch):
    assert len(ask(loaded, ["describe the picture."], max_new_tokens=1)[0].ids) <= 40
    prefix = encode_prefix(loaded.model, loaded.processor, IMAGE)
    question = write_question(loaded.processor, "describe", [], IMAGE.size)
    limit = prefix.length + len(question.ids) + 3
    monkeypatch.setattr(loaded.model.config.text_config, "max_position_embeddings", limit)
    answer = decode(loaded.model, loaded.processor, prefix, [question], Decoding(max_new_tokens=50))[0]
    assert not answer.complete or len(answer.ids) <= 3


def test_the_same_seed_draws_the_same_words(loaded):
    first, again, other = (
        ask(loaded, TEXTS[1:2], temperature=3.0, seed=seed, max_new_tokens=12)[0].ids for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_words_are_told_as_they_come(kit):
    script = Script(kit.processor, "a dog<|im_end|>", "no<|im_end|>")
    heard = ["", ""]

    def hear(row, words):
        heard[row] += words

    written = ask(kit, TEXTS[:2], script, hear)
    assert heard == [one.text for one in written] == ["a dog", "no"]
    assert written[0].confidence == pytest.approx(np.prod(written[0].probabilities) ** (1 / 4))


@pytest.mark.parametrize("temperature", [1e-40, 1e-300])
def test_the_lowest_temperatures_take_the_most_probable_token(kit, temperature):
    likeliest = ask(kit, TEXTS[1:2], max_new_tokens=6)[0]
    assert ask(kit, TEXTS[1:2], max_new_tokens=6, temperature=temperature)[0].ids == likeliest.ids


@pytest.mark.parametrize(
    "wrong",
    [
        *({"temperature": one} for one in (-1, float("nan"), float("inf"), "hot")),
        *({"seed": one} for one in (2**70, "a", -1)),
        *({"instance_threshold": one} for one in (2, -1, float("nan"))),
    ],
)
def test_what_cannot_be_decoded_with_is_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Decoding(**wrong)
