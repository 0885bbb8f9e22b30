from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from openferret import prompts
from openferret.errors import InputError
from openferret.generation.decode import decode
from openferret.generation.naming import NounEvidence
from openferret.generation.prefix import Continuation, encode_prefix
from openferret.generation.questions import write_question
from openferret.model.configuration import FerretConfig
from openferret.regions import Box

SIZE = (60, 40)
A, AN, THE, MAN, JEANS, GRASS, EYE, RED = range(8)
OF_A_TEXT = 10  # a token at a text's beginning is so much more than after a space
SIZE_OF_VOCABULARY = 20


class Words:
    """Each word is a token, another one at a text's beginning; articles are written nowhere else."""

    words = ("a", "an", " the", " man", " jeans", " grass", " eye", " red")

    def tokenize(self, text):
        return [self.words.index(text)] if text in self.words else [90, 91]


def form(number, token, with_article, takes_an=False, then=()):
    after, first = (token, *then), (OF_A_TEXT + token, *then)
    return (number, after, first, takes_an, with_article, 1 - with_article)


FORMS = [form(0, MAN, 0.8), form(1, JEANS, 0.0), form(2, GRASS, 0.1), form(3, EYE, 0.9, takes_an=True)]


def evidence(forms=FORMS):
    return NounEvidence(Words(), forms, torch.device("cpu"))


def likeliest(known, logits, *given):
    barred = known.lay_over(logits, *given)
    return int((logits if barred is None else logits.masked_fill(barred, -torch.inf)).argmax())


def flat():
    return torch.zeros(SIZE_OF_VOCABULARY)


def shares(logits, tokens):
    likely = logits.softmax(0)[tokens]
    return (likely / likely.sum()).tolist()


def test_an_answer_begins_as_its_likeliest_noun_is_said():
    # Words for a person are likelier together, but none of them is as likely as the trousers.
    for nouns, with_article in (([0.2, 0.5, 0.0, 0.3], False), ([0.6, 0.3, 0.1, 0.0], True)):
        logits = flat()
        logits[A] = 9.0  # the language model would rather say "a", and what else it might say is many words
        assert (likeliest(evidence(), logits, torch.tensor(nouns), []) in (A, AN)) == with_article


def test_where_words_are_drawn_both_beginnings_remain():
    # What is said of such a region in general, by the language model too, adds nothing to how the noun is said.
    logits, nouns = flat(), torch.tensor([0.6, 0.4, 0.0, 0.0])
    logits[[A, AN]] = math.log(0.3 * (SIZE_OF_VOCABULARY - 2) / 0.4)
    evidence().lay_over(logits, nouns, [])
    assert float(logits.softmax(0)[[A, AN]].sum()) == pytest.approx(0.8, abs=1e-3)


def test_the_language_model_has_its_share_in_the_beginning():
    logits, nouns = flat(), torch.tensor([0.6, 0.4, 0.0, 0.0])
    logits[[A, AN]] = -5.0  # a man, but in this picture some other words come first
    assert likeliest(evidence(), logits, nouns, []) not in (A, AN)


def test_after_an_article_only_what_is_said_with_one_is_likely(monkeypatch):
    monkeypatch.setattr("openferret.generation.naming.NAMED_WEIGHT", 1.0)
    nouns = torch.tensor([0.2, 0.5, 0.2, 0.1])
    logits = flat()
    evidence().lay_over(logits, nouns, [A])
    assert shares(logits, [MAN, JEANS, GRASS, EYE]) == pytest.approx([0.889, 0, 0.111, 0], abs=1e-3)
    logits = flat()
    evidence().lay_over(logits, nouns, [A, RED])  # "an" may stand before another word than the noun
    assert shares(logits, [MAN, EYE]) == pytest.approx([0.64, 0.36], abs=1e-3)
    logits = flat()
    evidence().lay_over(logits, nouns, [THE])
    assert shares(logits, [MAN, JEANS, GRASS, EYE]) == pytest.approx([0.055, 0.688, 0.248, 0.014], abs=5e-3)


def test_a_noun_is_said_in_the_form_that_the_language_model_wants():
    men = 8
    forms = [
        (0, (MAN,), (OF_A_TEXT + MAN,), False, 0.7, 0.1),
        (0, (men,), (OF_A_TEXT + men,), False, 0.0, 0.2),
    ]
    logits = flat()
    logits[men] = 3.0
    evidence(forms).lay_over(logits, torch.tensor([1.0]), [THE])
    assert int(logits.argmax()) == men


def test_forms_of_one_first_token_are_added_up(monkeypatch):
    monkeypatch.setattr("openferret.generation.naming.NAMED_WEIGHT", 1.0)
    logits = flat()
    forms = [form(0, MAN, 0.0), form(1, GRASS, 0.0), form(2, GRASS, 0.0)]
    known = evidence(forms)
    known.lay_over(logits, torch.tensor([0.4, 0.3, 0.3]), [THE])
    assert shares(logits, [MAN, GRASS]) == pytest.approx([0.4, 0.6], abs=1e-5)
    assert known.begins_noun(GRASS)
    assert known.begins_noun(OF_A_TEXT + GRASS)
    assert not known.begins_noun(THE)


BOARD, BOARDER = 8, 9
LONG = [form(0, MAN, 0.0, then=(BOARD,)), form(1, MAN, 0.0, then=(BOARDER, RED)), form(2, MAN, 0.0)]


@pytest.mark.parametrize(
    ("nouns", "tokens"),
    [([0.6, 0.2, 0.2], [BOARD]), ([0.2, 0.7, 0.1], [BOARDER, RED]), ([0.1, 0.1, 0.8], [])],
)
@pytest.mark.parametrize(
    "forms", [LONG, [[one, [*after], [*first], *rest] for one, after, first, *rest in LONG]]
)
def test_a_noun_of_several_tokens_is_written_to_its_end(forms, nouns, tokens):
    known, written = evidence(forms), [THE, MAN]
    while known.may_go_on(written, 1):
        logits = flat()
        logits[A] = 9.0  # the language model wants to go elsewhere
        token = likeliest(known, logits, torch.tensor(nouns), written, 1)
        if token == A:
            break
        written.append(token)
    assert written[2:] == tokens


def test_no_other_noun_follows_at_once():
    logits = flat()
    evidence().bar_noun(logits)
    assert [one for one in range(10) if logits[one].isneginf()] == [MAN, JEANS, GRASS, EYE]


def test_an_article_fits_the_noun_that_the_namer_has_in_mind():
    known = evidence()
    assert [known.is_article(one) for one in range(4)] == [True, True, False, False]
    an_eye, a_man = torch.tensor([0.3, 0.1, 0.0, 0.6]), torch.tensor([0.5, 0.1, 0.0, 0.4])
    assert [known.fitting(one, an_eye) for one in (A, AN)] == [AN, AN]
    assert [known.fitting(one, a_man) for one in (A, AN)] == [A, A]


def test_what_is_on_the_picture_chooses_among_nouns_but_never_writes_one():
    seen = torch.tensor([0.02, 0.9, 0.3, 0.0])
    noun_next, other_next = flat(), flat()
    for logits, other in ((noun_next, 1.5), (other_next, 2.5)):
        logits[MAN], logits[JEANS], logits[RED] = 2.0, 1.0, other
        evidence().lay_seen_over(logits, seen, beginning=False)
        assert logits[RED] == other  # what is no noun stays as it is
    assert int(noun_next.argmax()) == JEANS
    assert float(noun_next.max()) == pytest.approx(2.0)
    assert int(other_next.argmax()) == RED


def test_where_an_answer_has_to_end_no_noun_is_chosen():
    ending = torch.full((SIZE_OF_VOCABULARY,), -torch.inf)
    ending[9] = 0.0
    nouns = torch.tensor([0.1, 0.7, 0.1, 0.1])
    for written in ([], [A]):
        logits = ending.clone()
        evidence().lay_over(logits, nouns, written)
        assert torch.equal(logits, ending)
    logits = ending.clone()
    evidence().lay_seen_over(logits, nouns, beginning=False)
    assert torch.equal(logits, ending)


def test_what_a_description_has_named_it_need_not_name_again():
    forms = [form(0, MAN, 0.0), form(1, GRASS, 0.0), (2, (GRASS,), (OF_A_TEXT + EYE,), False, 0.5, 0.5)]
    known, seen = evidence(forms), torch.tensor([0.5, 0.6, 0.7])
    assert known.without(seen, GRASS).tolist() == pytest.approx([0.5, 0, 0])  # two nouns of one first token
    assert known.without(seen, OF_A_TEXT + GRASS).tolist() == pytest.approx([0.5, 0, 0.7])
    assert known.without(seen, 9).tolist() == pytest.approx(seen.tolist())


def test_a_naming_question_is_known_by_its_words(tiny):
    processor = tiny.loaded("kit").processor
    region = Box(0, 0, 30, 20)
    assert write_question(processor, prompts.REFER.format(region="[0]"), [region], SIZE).naming
    assert not write_question(processor, "What is [0] doing?", [region], SIZE).naming
    assert not write_question(processor, "What is this?", [], SIZE).naming


def plain_forms(tokens):
    return tuple((number, (one,), (one,), False, 0.5, 0.5) for number, one in enumerate(tokens))


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


@pytest.mark.parametrize(("likely", "written"), [(1, "a dog in a picture"), (0, "a ball in a picture")])
def test_the_namer_chooses_the_noun_of_an_answer_and_nothing_after_it(tiny, monkeypatch, likely, written):
    loaded = tiny.loaded("kit")
    model, processor = loaded.model, loaded.processor
    words = ["ball", "dog", "man", "box", "picture", "image", "region"]
    tokens = [processor.tokenizer.convert_tokens_to_ids(word) for word in words]
    monkeypatch.setattr(model.config, "noun_forms", plain_forms(tokens))
    nouns = torch.full((1, 7), 0.01)
    nouns[0, likely] = 0.94
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
    monkeypatch.setattr(model.config, "noun_forms", plain_forms(tokens))
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
        {"noun_forms": ((0, (1,), (2,)),)},
        {"noun_forms": (5,)},
        {"noun_forms": ((0, (10**9,), (2,), False, 0.5, 0.5),)},
        {"noun_forms": ((0, (), (2,), False, 0.5, 0.5),)},
        {"noun_forms": ((7, (1,), (2,), False, 0.5, 0.5),)},
        {"noun_forms": ((0, (1,), (2,), False, 0.5, 1.5),)},
        {"nouns": ("a",)},
        {"nouns": (1,) * 7},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(tiny, changes):
    values = tiny.loaded("kit").model.config.to_dict() | changes
    with pytest.raises(InputError, match="noun"):
        FerretConfig(**values)
