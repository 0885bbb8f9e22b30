"""Many questions in one training sequence must look to each as if it were alone behind a cached prefix."""

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from openferret import prompts
from openferret.train.stages.dialogues import Exchange
from openferret.train.stages.language import GRID_SIDE, OBJECTS, Tokens, visible, write_sequence

BASE = 64


class Letters:
    """A tokenizer of letters, special tokens and location tokens."""

    def __call__(self, text, add_special_tokens=False):
        names = [*prompts.SPECIAL_TOKENS, *(prompts.location_token(k) for k in range(prompts.LOCATION_BINS))]
        ids = []
        while text:
            name = next((n for n in names if text.startswith(n)), None)
            ids.append(BASE + names.index(name) if name else ord(text[0]) % BASE)
            text = text[len(name or text[0]) :]
        return {"input_ids": ids}


TOKENS = Tokens(Letters(), BASE)
EXCHANGES = [
    Exchange("refer", "What is it?", "a dog"),
    Exchange(
        "ground", "Where?", "<phrase>a<box><loc_1><loc_2><loc_3><loc_4><box><loc_5><loc_6><loc_7><loc_8>"
    ),
]


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=BASE + 5 + 1000,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaModel(config).eval()


@torch.no_grad()
def test_a_question_sees_the_prefix_and_itself_only(model):
    together = write_sequence(TOKENS, EXCHANGES)
    hidden = model(
        input_ids=torch.tensor([together.ids]),
        attention_mask=visible(torch.tensor([together.segments])),
        position_ids=torch.tensor([together.positions]),
    ).last_hidden_state[0]
    segments = torch.tensor(together.segments)
    for number, exchange in enumerate(EXCHANGES, start=1):
        alone = write_sequence(TOKENS, [exchange])
        expected = model(input_ids=torch.tensor([alone.ids])).last_hidden_state[0]
        torch.testing.assert_close(
            hidden[(segments == 0) | (segments == number)], expected, atol=1e-5, rtol=1e-4
        )


def test_padding_makes_no_nan(model):
    segments = torch.tensor([[0, 0, 1, -1]])
    output = model(input_ids=torch.tensor([[1, 2, 3, 0]]), attention_mask=visible(segments)).last_hidden_state
    assert output.isfinite().all()


def test_the_prefix_holds_the_picture():
    assert TOKENS.prefix().count(TOKENS.image) == GRID_SIDE**2 + OBJECTS


def test_only_words_and_the_first_box_are_learned():
    sequence = write_sequence(TOKENS, EXCHANGES[1:])
    learned = [label for label in sequence.labels if label >= 0]
    answer = TOKENS.encode("<phrase>a<box>") + TOKENS.encode("<|im_end|>")
    assert learned == answer
    for position, label in enumerate(sequence.labels[:-1]):
        assert label in (-100, sequence.ids[position + 1])
