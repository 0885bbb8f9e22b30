from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoProcessor

import openferret.auto  # noqa: F401  (registers the processor)
from openferret.errors import InputError
from openferret.processing.processor import FerretProcessor, escape_text
from openferret.regions import Box, Mask, Point, Polygon, Scribble

PICTURE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)


@pytest.fixture(scope="module")
def kit(tiny):
    return tiny.loaded("kit").processor


@pytest.fixture(scope="module")
def paper(tiny):
    return tiny.loaded("paper").processor


def test_special_tokens_in_a_prompt_are_one_token_each(kit):
    ids = kit.tokenize("what<loc_7><region_fea>?<|im_end|>")
    names = kit.tokenizer.convert_ids_to_tokens(ids)
    assert names == ["what", "<loc_7>", "<region_fea>", "?", "<|im_end|>"]


@given(
    st.lists(
        st.sampled_from(
            ["<image>", "<region_fea>", "<loc_1>", "<|im_end|>", "<|im_start|>", "</s>", "<phrase>"]
        )
        | st.text(max_size=5)
    )
)
@settings(max_examples=60, deadline=None)
def test_no_special_token_survives_in_a_users_words(tiny, words):
    processor = tiny.loaded("kit").processor
    special = {i for i, token in processor.tokenizer.added_tokens_decoder.items() if token.special}
    unknown = processor.tokenizer.unk_token_id
    ids = processor.tokenize(escape_text("".join(words)))
    assert not (set(ids) & special) - {unknown}


def test_a_users_words_are_otherwise_read_as_they_are(kit):
    assert kit.tokenize(escape_text("where is the <b>dog</b>?")) == kit.tokenize("where is the <b>dog</b>?")
    text = "what is <image>?"
    assert kit.tokenizer.decode(kit.tokenize(escape_text(text))) == text
    assert kit.tokenize(escape_text("dog \ud800 \ufdd0")) == kit.tokenize("dog ? \ufffd")


def test_one_picture_becomes_its_tokens_and_its_objects(kit, paper):
    assert kit.expand_pictures("a<image>b") == "a" + "<image>" * 4 + "<object>" * 4 + "b"
    assert kit.tokenize(kit.expand_pictures("<image>"))[-1] == kit.tokenizer.convert_tokens_to_ids("<object>")
    assert len(paper.tokenize(paper.expand_pictures("<image>"))) == 16


def test_pictures_are_squashed_and_normalised(kit, paper):
    white = Image.new("RGB", (100, 10), "white")
    assert kit.pixel_values([white]).shape == (1, 3, 64, 64)
    assert np.all(kit.pixel_values([white]) == 1.0)
    np.testing.assert_allclose(paper.pixel_values([white])[0, :, 0, 0], [1.9303, 2.0749, 2.1459], atol=1e-3)


def test_regions_in_words(kit, paper):
    assert kit.region_words(Point(30, 10), 60, 40) == "<loc_500><loc_250><region_fea>"
    assert paper.region_words(Point(30, 10), 60, 40) == "[500, 250] <region_fea>"
    assert paper.region_words(Box(0, 0, 30, 10), 60, 40) == "[0, 0, 500, 250] <region_fea>"
    assert (
        paper.region_words(Polygon([(6, 4), (30, 4), (30, 10)]), 60, 40)
        == "[100, 100, 500, 250] <region_fea>"
    )
    # A box without area is a point, and is written as one.
    assert paper.region_words(Box(30, 10, 30, 10), 60, 40) == "[500, 250] <region_fea>"


def test_a_batch_is_padded_on_the_left_and_its_regions_keep_their_pictures(kit):
    texts = ["<image> what is <region_fea>?", "<image> where is the dog? <region_fea> <region_fea>"]
    full = Mask(np.ones((40, 60), bool))
    made = kit(
        [PICTURE, PICTURE[:20]], texts, [[Point(1, 1)], [Scribble([(1, 1), (9, 9)]), Box(0, 0, 60, 20)]]
    )
    ids, mask = made["input_ids"], made["attention_mask"]
    assert mask[0, 0] == 0
    assert mask[:, -1].tolist() == [1, 1]
    assert kit.tokenizer.convert_ids_to_tokens(ids[0, -1].item()) == "?"
    assert made["region_picture"].tolist() == [0, 1, 1]
    assert made["region_points"].shape == (3, 128, 2)
    assert [one.shape[1] for one in made["region_anchors"]] == [32, 8]
    right = kit([PICTURE, PICTURE], ["<image> a", "<image> a dog"], padding_side="right")
    assert right["attention_mask"][0, -1] == 0
    assert "region_points" not in right
    arrays = kit(PICTURE, "<image> <region_fea>", [full], return_tensors="np")
    assert isinstance(arrays["region_points"], np.ndarray)


def test_a_picture_may_have_several_views_and_regions_on_any_of_them(kit):
    made = kit([PICTURE, PICTURE[:20, :20]], "<image> <image> <region_fea>", [(1, Box(10, 10, 20, 20))])
    assert made["pixel_values"].shape[0] == 2
    assert made["region_picture"].tolist() == [1]
    assert made["region_points"].min() > 0.5


def test_the_seed_decides_which_points_are_drawn(tiny):
    again = FerretProcessor.for_config(tiny.tokenizer("tokens"), tiny.kit(), seed=0)
    other = FerretProcessor.for_config(tiny.tokenizer("tokens"), tiny.kit(), seed=1)
    drawn = [
        one(PICTURE, "<image> <region_fea>", [Box(0, 0, 60, 40)])["region_points"]
        for one in (tiny.loaded("kit").processor, again, other)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    ("images", "text", "regions", "message"),
    [
        (PICTURE, "what?", None, "0 <image> markers, but there are 1"),
        (None, "<image> what?", None, "1 <image> markers, but there are 0"),
        (PICTURE, "<image> what?", [Point(1, 1)], "0 <region_fea> placeholders, but 1 regions"),
        (PICTURE, "<image> <region_fea>", None, "1 <region_fea> placeholders, but 0 regions"),
        (PICTURE, "<image> <region_fea>", [(1, Point(1, 1))], "does not show"),
        (PICTURE, ["<image>"], [[], []], "1 texts, but regions for 2"),
        (PICTURE, "<image> <region_fea>", [Mask(np.ones((3, 3)))], "mask is 3 x 3"),
    ],
)
def test_what_does_not_fit_together_is_refused(kit, images, text, regions, message):
    with pytest.raises(InputError, match=message):
        kit(images, text, regions)


def test_a_tokenizer_of_another_model_is_refused(tiny):
    with pytest.raises(InputError, match="same order"):
        FerretProcessor.for_config(tiny.tokenizer("text"), tiny.kit())
    with pytest.raises(InputError, match="Unknown prompt"):
        FerretProcessor(tiny.tokenizer("text"), prompt_format="alpaca")


@pytest.mark.parametrize("name", ["kit", "paper"])
def test_it_is_read_back_as_it_was_saved(tiny, name, tmp_path):
    loaded = tiny.loaded(name)
    loaded.processor.save_pretrained(tmp_path)
    loaded.model.config.save_pretrained(tmp_path)
    question = loaded.processor.conversation.prompt("what is <region_fea>?")
    expected = loaded.processor(PICTURE, question, [Box(3, 3, 30, 30)])
    for read in (FerretProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert isinstance(read, FerretProcessor)
        made = read(PICTURE, question, [Box(3, 3, 30, 30)])
        assert torch.equal(made["input_ids"], expected["input_ids"])
        assert torch.equal(made["region_points"], expected["region_points"])
        assert read.stop_ids == loaded.processor.stop_ids
