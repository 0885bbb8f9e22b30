from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from openferret import prompts
from openferret.errors import InputError
from openferret.generation.decode import decode
from openferret.generation.evidence import ArticleEvidence, NounEvidence, lay_presence_over, redistribute
from openferret.generation.intents import Sought
from openferret.generation.locating import FoundPhrase
from openferret.generation.prefix import Continuation, encode_prefix
from openferret.generation.questions import write_question
from openferret.model.configuration import FerretConfig
from openferret.regions import Box

SIZE = (60, 40)


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


def test_nouns_of_one_first_token_are_added_up():
    evidence = NounEvidence([1, 2, 2, 4, 5, 5], weight=1.0, device=torch.device("cpu"))
    logits = torch.zeros(6)
    evidence.lay_over(logits, torch.tensor([0.4, 0.3, 0.3]), beginning=False)
    shares = logits.softmax(0)[[1, 2]]
    assert torch.allclose(shares / shares.sum(), torch.tensor([0.4, 0.6]), atol=1e-5)
    assert 2 in evidence
    assert 0 not in evidence


def test_without_weight_the_language_model_decides():
    evidence = NounEvidence([1, 2, 3, 4], weight=0.0, device=torch.device("cpu"))
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5, 0.2])
    before = logits.clone()
    evidence.lay_over(logits, torch.tensor([0.01, 0.99]), beginning=False)
    assert torch.allclose(logits, before, atol=1e-6)


def test_what_is_on_the_picture_chooses_among_nouns_but_never_writes_one():
    evidence = NounEvidence([1, 2, 3, 1, 2, 3], weight=0.0, device=torch.device("cpu"))
    seen = torch.tensor([0.02, 0.9, 0.3])
    noun_next = torch.tensor([0.0, 2.0, 1.0, 0.0, 1.5])
    evidence.lay_seen_over(noun_next, seen, beginning=False)
    assert int(noun_next.argmax()) == 2
    assert float(noun_next.max()) == pytest.approx(2.0)
    other_next = torch.tensor([0.0, 2.0, 1.0, 0.0, 2.5])
    evidence.lay_seen_over(other_next, seen, beginning=False)
    assert int(other_next.argmax()) == 4
    assert noun_next[4] == 1.5  # what is no noun stays as it is


def test_where_an_answer_has_to_end_no_noun_is_chosen():
    evidence = NounEvidence([1, 2, 3, 1, 2, 3], weight=0.5, device=torch.device("cpu"))
    ending = torch.full((5,), -torch.inf)
    ending[0] = 0.0
    for lay in (evidence.lay_over, evidence.lay_seen_over):
        logits = ending.clone()
        lay(logits, torch.tensor([0.1, 0.8, 0.1]), beginning=False)
        assert torch.equal(logits, ending)


def test_what_a_description_has_named_it_need_not_name_again():
    evidence = NounEvidence([1, 2, 2, 4, 5, 6], weight=0.0, device=torch.device("cpu"))
    seen = torch.tensor([0.5, 0.6, 0.7])
    assert evidence.without(seen, 2).tolist() == pytest.approx([0.5, 0, 0])  # two nouns of one first token
    assert evidence.without(seen, 5).tolist() == pytest.approx([0.5, 0, 0.7])
    assert evidence.without(seen, 9).tolist() == pytest.approx(seen.tolist())


class Words:
    """Each word is a token."""

    words = (" a", " an", "A", "An", " eye", " dog", " uniform")

    def __init__(self):
        self.tokenizer = self

    def tokenize(self, text):
        return [self.words.index(text)] if text in self.words else [90, 91]

    def decode(self, ids):
        return self.words[ids[0]]


def test_an_article_fits_the_noun_that_the_namer_has_in_mind():
    articles = ArticleEvidence(Words(), [4, 5, 6, 4, 5, 6], torch.device("cpu"))
    assert [one in articles for one in range(5)] == [True, True, True, True, False]
    an_eye, a_dog = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.3, 0.4, 0.3])
    assert [articles.fitting(one, an_eye) for one in (0, 1, 2, 3)] == [1, 1, 3, 3]
    assert [articles.fitting(one, a_dog) for one in (0, 1, 2, 3)] == [0, 0, 2, 2]
    assert torch.allclose(articles.after(3, a_dog), torch.tensor([0.3, 0, 0]))
    assert torch.allclose(articles.after(0, an_eye), torch.tensor([0, 0.3, 0.1]))


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


def test_a_naming_question_is_known_by_its_words(tiny):
    processor = tiny.loaded("kit").processor
    region = Box(0, 0, 30, 20)
    assert write_question(processor, prompts.REFER.format(region="[0]"), [region], SIZE).naming
    assert not write_question(processor, "What is [0] doing?", [region], SIZE).naming
    assert not write_question(processor, "What is this?", [], SIZE).naming


class Saying(nn.Module):
    """A head that wants one token after the other."""

    def __init__(self, processor, answer):
        super().__init__()
        self.tokens = processor.tokenize(answer)
        self.size = len(processor.tokenizer)

    def forward(self, hidden):
        wanted = torch.zeros(len(hidden), 1, self.size)
        wanted[:, 0, self.tokens.pop(0)] = 9.0
        return wanted


@pytest.mark.parametrize(("weight", "written"), [(0.0, "a dog in a picture"), (1.0, "a ball in a picture")])
def test_the_namer_chooses_the_noun_of_an_answer_and_nothing_after_it(tiny, monkeypatch, weight, written):
    loaded = tiny.loaded("kit")
    model, processor = loaded.model, loaded.processor
    words = ["ball", "dog", "man", "box", "picture", "image", "region"]
    tokens = [processor.tokenizer.convert_tokens_to_ids(word) for word in words]
    monkeypatch.setattr(model.config, "noun_token_ids", (*tokens, *tokens))
    monkeypatch.setattr(model.config, "noun_weight", weight)
    nouns = torch.tensor([[0.94, *[0.01] * 6]])
    monkeypatch.setattr(Continuation, "nouns", lambda *_: nouns)
    image = Image.fromarray(np.zeros((40, 60, 3), np.uint8))
    question = write_question(processor, prompts.REFER.format(region="[0]"), [Box(0, 0, 30, 20)], image.size)
    prefix = encode_prefix(model, processor, image)
    own = model.lm_head
    model.lm_head = Saying(processor, "a dog in a picture<|im_end|>")
    try:
        assert decode(model, processor, prefix, [question])[0].text == written
    finally:
        model.lm_head = own


def test_regions_are_named_by_the_models_namer(tiny):
    loaded = tiny.loaded("kit")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))
    rows = Continuation(
        loaded.model, loaded.processor, encode_prefix(loaded.model, loaded.processor, image), 1
    )
    nouns = rows.nouns([Box(0, 0, 30, 20), Box(20, 10, 60, 40)])
    assert nouns.shape == (2, 7)
    assert torch.allclose(nouns.sum(-1), torch.ones(2), atol=1e-5)


@pytest.mark.parametrize(
    ("seen", "written"),
    [
        ([0.9, 0.02, 0.02], "<phrase>a ball<box> in <phrase>a picture<box>"),
        ([0.02, 0.9, 0.02], "<phrase>a dog<box> in <phrase>a picture<box>"),
    ],
)
def test_a_description_names_what_the_namer_sees(tiny, monkeypatch, seen, written):
    loaded = tiny.loaded("kit")
    model, processor = loaded.model, loaded.processor
    tokens = [processor.tokenizer.convert_tokens_to_ids(word) for word in ("ball", "dog", "man")]
    every = [*tokens, *tokens[:1] * 4]  # the tiny model's namer knows seven
    monkeypatch.setattr(model.config, "noun_token_ids", (*every, *every))
    image = Image.fromarray(np.zeros((40, 60, 3), np.uint8))
    prefix = encode_prefix(model, processor, image)
    prefix = replace(prefix, encoded=replace(prefix.encoded, nouns=torch.tensor([[*seen, *[0.0] * 4]])))
    own = model.lm_head
    model.lm_head = Wavering(processor, "<phrase>a dog<box> in <phrase>a picture<box><|im_end|>")
    try:
        question = write_question(processor, prompts.DESCRIBE, [], image.size)
        assert question.describing
        said = decode(model, processor, prefix, [question])[0].text
    finally:
        model.lm_head = own
    assert re.sub(r"(?:<box>(?:<loc_\d+>)+)+", "<box>", said) == written


class Wavering(Saying):
    """As `Saying`, but every other word is not unlikely."""

    def forward(self, hidden):
        return super().forward(hidden) / 6


@pytest.mark.parametrize(
    "changes",
    [
        {"noun_token_ids": (1, 2, 3)},
        {"noun_token_ids": (10**9,) * 14},
        {"noun_weight": 2.0},
        {"nouns": ("a",)},
        {"nouns": (1,) * 7},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(tiny, changes):
    values = tiny.loaded("kit").model.config.to_dict() | changes
    with pytest.raises(InputError, match="noun"):
        FerretConfig(**values)
