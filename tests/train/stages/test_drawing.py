"""Drawn descriptions: what the locator writes, where they end, and how likely each word was."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from openferret import prompts
from openferret.train.stages.dialogues import Exchange
from openferret.train.stages.drawing import LOCATED, Drawing, opening
from openferret.train.stages.language import LanguageModel, Tokens, language_loss, visible, write_batch
from openferret.train.stages.merged import MergedLayers
from openferret.train.stages.namer_folds import FOLDS, NamerFolds
from openferret.train.stages.pictures import WHOLE, cropped
from openferret.train.stages.run_rewards import likelihoods
from openferret.train.stages.trunk import KIT_SAMPLER, TrunkModel

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # peft asks for it
BASE, WIDTH, LONGEST, END = 70, 32, 24, 69
SPECIAL = [*prompts.SPECIAL_TOKENS, *(prompts.location_token(k) for k in range(prompts.LOCATION_BINS))]


class Added:
    special = True


class Letters:
    """A tokenizer of letters, special tokens and location tokens; `<|im_end|>` is one token."""

    added_tokens_decoder = {END: Added(), **{BASE + k: Added() for k in range(len(SPECIAL))}}  # noqa: RUF012

    def __call__(self, text, add_special_tokens=False):
        ids = []
        while text:
            name = next((n for n in SPECIAL if text.startswith(n)), None)
            if text.startswith("<|im_end|>"):
                ids.append(END)
                text = text[len("<|im_end|>") :]
                continue
            ids.append(BASE + SPECIAL.index(name) if name else ord(text[0]) % (BASE - 1))
            text = text[len(name or text[0]) :]
        return {"input_ids": ids}


TOKENS = Tokens(Letters(), BASE)
PHRASE = BASE + SPECIAL.index(prompts.PHRASE_TOKEN)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=BASE,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    trunk = TrunkModel(WIDTH, 9)
    folds = NamerFolds([trunk.namer.state_dict()] * FOLDS)
    made = LanguageModel(trunk, LlamaForCausalLM(config), rank=4, folds=folds)
    torch.nn.init.normal_(made.special, std=0.3)  # so that phrases and boxes are drawn now and then
    return made.eval()


@pytest.fixture(scope="module")
def seen(model):
    store = np.random.default_rng(0).integers(0, 255, (2, 224, 224, 3)).astype(np.uint8)
    with torch.no_grad():
        return model.pictures(cropped(store, [0, 1], [WHOLE] * 2, 128).pixels())


@pytest.fixture(scope="module")
def drawn(model, seen):
    torch.manual_seed(1)
    layers = MergedLayers(model.decoder, torch.float32)
    return Drawing(model, layers, TOKENS, LONGEST).draw(*seen, count=40)


def test_after_a_box_the_locator_writes_four_places(drawn):
    boxes = 0
    for row, forced, length in zip(
        drawn.ids.tolist(), drawn.forced.tolist(), drawn.lengths.tolist(), strict=True
    ):
        for place in range(length):
            if row[place] == TOKENS.box:
                boxes += 1
                after = range(place + 1, min(place + 1 + LOCATED, LONGEST))
                assert all(forced[k] and row[k] >= BASE + len(prompts.SPECIAL_TOKENS) for k in after)
        located = [token >= BASE + len(prompts.SPECIAL_TOKENS) for token in row[:length]]
        assert located == forced[:length]
    assert boxes > 3


def test_a_box_needs_a_phrase_with_words(drawn):
    for row in drawn.ids.tolist():
        for place, token in enumerate(row):
            if token == TOKENS.box:
                before = row[:place]
                assert PHRASE in before
                opened = place - 1 - before[::-1].index(PHRASE)
                assert place - opened > 1
                assert TOKENS.box not in row[opened:place]


def test_descriptions_end_once_and_are_filled_up(drawn):
    assert drawn.complete.any()
    for row, length, whole in zip(
        drawn.ids.tolist(), drawn.lengths.tolist(), drawn.complete.tolist(), strict=True
    ):
        assert END not in row[: length - 1]
        if whole:
            assert set(row[length - 1 :]) == {END}


def test_without_chance_all_drawings_of_a_picture_are_one(model, seen):
    layers = MergedLayers(model.decoder, torch.float32)
    written = Drawing(model, layers, TOKENS, LONGEST).draw(*seen, count=2, temperature=0.0)
    assert torch.equal(written.ids[0], written.ids[1])
    assert torch.equal(written.ids[2], written.ids[3])


@torch.no_grad()
def test_likelihoods_are_those_of_each_description_alone(model, seen, drawn):
    layers = MergedLayers(model.decoder, torch.float32)
    said, row = likelihoods(model, layers, TOKENS, seen[1], drawn)
    asked = opening(TOKENS)
    for number in (0, 3, 41):
        length = int(drawn.lengths[number])
        ids = torch.tensor([asked + drawn.ids[number, :length].tolist()])
        embeddings = model.embed(ids, model.new_rows())
        shown = seen[1][number // 40]
        embeddings = embeddings.masked_scatter((ids == TOKENS.image)[..., None], shown)
        segments = torch.tensor([[0] * len(asked) + [1] * length])
        hidden = model.hidden(embeddings, visible(segments), torch.arange(ids.shape[1])[None])[0]
        likely = model.logits(hidden[len(asked) - 1 : -1]).log_softmax(-1)
        chosen = (~drawn.forced[number, :length]).nonzero()[:, 0]
        wanted = likely[chosen, drawn.ids[number, chosen]]
        torch.testing.assert_close(said[row == number], wanted, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_pictures_that_were_learned_are_named_by_their_folds(model):
    store = np.random.default_rng(0).integers(0, 255, (2, 224, 224, 3)).astype(np.uint8)
    points = np.random.default_rng(1).random((KIT_SAMPLER.points, 2)).astype(np.float32)
    asked = [[Exchange("refer", f"What is {prompts.REGION_TOKEN}?", "a dog", (points,))]] * 2
    batch = write_batch(TOKENS, cropped(store, [0, 1], [WHOLE] * 2, 128), asked, folds=[0, 1])
    same, by_task = language_loss(model, TOKENS, batch)
    assert same == pytest.approx(float(language_loss(model, TOKENS, batch, learned=False)[0]), abs=1e-5)
    assert set(by_task) == {"refer"}
    before = model.folds.output_bias.clone()
    model.folds.output_bias[1, 3] += 20
    changed, _ = language_loss(model, TOKENS, batch)
    model.folds.output_bias.copy_(before)
    assert abs(float(changed - same)) > 1e-4
