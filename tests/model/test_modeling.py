from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText
from transformers.models.gpt2 import GPT2Config

from openferret.errors import InputError
from openferret.model.modeling import FerretForConditionalGeneration
from openferret.model.namer import namer_features
from openferret.model.pretrained import FerretModel
from openferret.regions import Box, Point, Scribble

WHAT = "what is <region_fea>?"


@pytest.fixture(params=["kit", "paper"])
def loaded(request, tiny):
    return tiny.loaded(request.param)


@pytest.fixture
def pictures():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 255, (40, 60, 3), np.uint8) for _ in range(2)]


def batch(loaded, pictures, questions, regions, **options):
    prompts = [loaded.processor.conversation.prompt(one) for one in questions]
    return loaded.processor(pictures, prompts, regions, **options)


def test_a_batch_of_unequal_questions_is_what_each_is_alone(loaded, pictures):
    questions = [WHAT, f"where is the dog in the picture? {WHAT} and {WHAT}"]
    regions = [[Point(5, 5)], [Box(0, 0, 30, 30), Scribble([(1, 1), (50, 30)])]]
    together = batch(loaded, pictures, questions, regions)
    logits = loaded.model(**together).logits[:, -1]
    answers = loaded.model.generate(**together, max_new_tokens=6, do_sample=False)
    for row in range(2):
        alone = batch(loaded, [pictures[row]], [questions[row]], [regions[row]])
        torch.testing.assert_close(loaded.model(**alone).logits[0, -1], logits[row], rtol=1e-3, atol=1e-4)
        answer = loaded.model.generate(**alone, max_new_tokens=6, do_sample=False)
        fresh = answer[0, alone["input_ids"].shape[1] :]
        assert answers[row, together["input_ids"].shape[1] :].tolist()[: len(fresh)] == fresh.tolist()


def test_right_and_left_padding_say_the_same(loaded, pictures):
    questions, regions = [WHAT, f"where is the dog? {WHAT}"], [[Point(5, 5)], [Point(9, 9)]]
    left = batch(loaded, pictures, questions, regions)
    right = batch(loaded, pictures, questions, regions, padding_side="right")
    positions = (left["attention_mask"].cumsum(1) - 1).clamp(min=0)
    from_left = loaded.model(**left, position_ids=positions).logits[left["attention_mask"].bool()]
    from_right = loaded.model(**right).logits[right["attention_mask"].bool()]
    torch.testing.assert_close(from_left, from_right, rtol=1e-3, atol=1e-4)


def test_the_answer_depends_on_the_picture_and_on_the_region(loaded, pictures):
    def last(picture, region):
        return loaded.model(**batch(loaded, [picture], [WHAT], [[region]])).logits[0, -1]

    before = last(pictures[0], Box(0, 0, 20, 20))
    assert not torch.allclose(before, last(pictures[1], Box(0, 0, 20, 20)), atol=1e-4)
    assert not torch.allclose(before, last(pictures[0], Box(40, 20, 60, 40)), atol=1e-4)


def test_beams_and_several_samples_keep_each_rows_regions(loaded, pictures):
    questions, regions = [WHAT, f"{WHAT} {WHAT}"], [[Point(5, 5)], [Box(0, 0, 9, 9), Box(30, 20, 60, 40)]]
    inputs = batch(loaded, pictures, questions, regions)
    ids, expanded = loaded.model._expand_inputs_for_generation(3, **inputs)
    repeated = loaded.model(input_ids=ids, **expanded).logits[:, -1]
    once = loaded.model(**inputs).logits[:, -1]
    torch.testing.assert_close(repeated, once.repeat_interleave(3, 0), rtol=1e-3, atol=1e-4)
    assert len(loaded.model.generate(**inputs, max_new_tokens=3, num_beams=2, do_sample=False)) == 2


def test_beams_and_several_samples_keep_each_rows_pictures(loaded, pictures):
    prompts = [f"<image> <image> {WHAT} {WHAT}", f"<image> {WHAT}", "the dog"]
    regions = [[(1, Point(5, 5)), (0, Box(20, 0, 50, 30))], [Box(0, 0, 9, 9)], []]
    inputs = loaded.processor([*pictures, pictures[0][::-1]], prompts, regions)
    once = loaded.model(**inputs).logits[:, -1]
    for given in ("pixel_values", "encoded"):
        if given == "encoded":
            inputs["encoded"] = loaded.model.model.encode_pictures(inputs.pop("pixel_values"))
        ids, expanded = loaded.model._expand_inputs_for_generation(3, **inputs)
        repeated = loaded.model(input_ids=ids, **expanded).logits[:, -1]
        torch.testing.assert_close(repeated, once.repeat_interleave(3, 0), rtol=1e-3, atol=1e-4)


def test_pictures_encoded_before_give_the_same_logits(loaded, pictures):
    inputs = batch(loaded, pictures, [WHAT, WHAT], [[Point(5, 5)], [Point(9, 9)]])
    expected = loaded.model(**inputs).logits
    inputs["encoded"] = loaded.model.model.encode_pictures(inputs.pop("pixel_values"))
    torch.testing.assert_close(loaded.model(**inputs).logits, expected)
    again = inputs["encoded"].at(torch.tensor([1, 0, 0])).tokens
    torch.testing.assert_close(again, inputs["encoded"].tokens[[1, 0, 0]])


def test_gradients_reach_the_sampler_the_projector_and_the_tower(loaded, pictures):
    model = copy.deepcopy(loaded.model).train()
    inputs = batch(loaded, pictures, [WHAT, WHAT], [[Point(5, 5)], [Box(9, 9, 50, 30)]], padding_side="right")
    model(**inputs, labels=inputs["input_ids"].where(inputs["attention_mask"] > 0, -100)).loss.backward()
    for part in ("sampler", "projector", "vision_tower"):
        total = sum(p.grad.abs().sum() for p in getattr(model.model, part).parameters() if p.grad is not None)
        assert total > 0, part


def test_without_regions_or_pictures_training_still_touches_what_reads_them(loaded, pictures):
    model = copy.deepcopy(loaded.model).train()
    for inputs in (
        batch(loaded, pictures[:1], ["where is the dog?"], None),
        loaded.processor(text=["the dog is red"]),
    ):
        model.zero_grad()
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
        touched = [*model.model.sampler.parameters(), *model.model.projector.parameters()]
        assert all(parameter.grad is not None for parameter in touched)


def test_it_is_read_back_as_it_was_saved(loaded, pictures, tmp_path):
    inputs = batch(loaded, pictures[:1], [WHAT], [[Point(5, 5)]])
    loaded.model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    read = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert isinstance(read, FerretForConditionalGeneration)
    with torch.no_grad():
        torch.testing.assert_close(read(**inputs).logits, loaded.model(**inputs).logits)


def test_bfloat16_stays_near_float32(loaded, pictures):
    inputs = batch(loaded, pictures[:1], [WHAT], [[Box(0, 0, 40, 30)]])
    # The same features in both: on rounded ones, proposals of a random model may come in another order.
    encoded = loaded.model.model.encode_pictures(inputs.pop("pixel_values"))
    exact = loaded.model(**inputs, encoded=encoded).logits[0, -1]
    rounded = copy.deepcopy(loaded.model).bfloat16()
    tokens = type(encoded)(
        encoded.tokens.bfloat16(),
        tuple(one.bfloat16() for one in encoded.maps),
        None if encoded.objects is None else encoded.objects.bfloat16(),
    )
    near = rounded(**inputs, encoded=tokens).logits[0, -1].float()
    assert torch.nn.functional.cosine_similarity(exact, near, dim=0) > 0.99
    pixels = batch(loaded, pictures[:1], [WHAT], [[Box(0, 0, 40, 30)]])
    assert torch.isfinite(rounded(**pixels).logits).all()


def test_placeholders_and_what_they_stand_for_must_agree(loaded, pictures):
    inputs = batch(loaded, pictures, [WHAT, WHAT], [[Point(5, 5)], [Point(9, 9)]])
    config, ids = loaded.model.config, inputs["input_ids"]

    def refused(message, **changes):
        with pytest.raises(InputError, match=message):
            loaded.model(**(inputs | changes))

    region = ids == config.region_token_id
    refused(
        "1 region placeholders, but there are 2",
        input_ids=ids.where(~region | (ids.new_tensor([[0], [1]]) > 0), 3),
    )
    first = ids.new_tensor([[1], [0]]) > 0
    both = ids.where(~region, 3)
    both[0, -2:] = config.region_token_id
    refused("Row 0 of the text has 2 region placeholders", input_ids=both)
    refused("picture placeholders", input_ids=ids.where((ids != config.image_token_id) | first, 3))
    refused("picture placeholders, but there are 0", pixel_values=None, region_points=None)
    refused("need pixel_values", pixel_values=None)
    with pytest.raises(InputError, match="exactly one"):
        loaded.model(input_ids=ids, inputs_embeds=torch.zeros(1, 1, 64))


def test_only_a_model_with_a_locator_locates(tiny):
    model = tiny.loaded("paper").model.model
    with pytest.raises(InputError, match="no locator"):
        model.locate(None, torch.zeros(1, 1, dtype=torch.long), None, None, None)


def test_phrases_are_located_together_as_alone_and_padding_is_not_read(tiny, pictures):
    loaded = tiny.loaded("kit")
    model = loaded.model.model
    encoded = model.encode_pictures(torch.from_numpy(np.zeros((2, 3, 64, 64), np.float32)).normal_())
    ids = torch.tensor([[7, 8, 9], [10, 0, 0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    merged = torch.tensor([True, False])
    both = model.locate(encoded, ids, mask, torch.tensor([0, 1]), merged)
    alone = model.locate(encoded, ids[1:, :1], mask[1:, :1], torch.tensor([1]), merged[1:])
    torch.testing.assert_close(both.box[1], alone.box[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both.presence[1], alone.presence[0], rtol=1e-4, atol=1e-5)
    assert ((both.boxes >= 0) & (both.boxes <= 1)).all()
    long = torch.randint(7, 20, (1, 60))
    one = torch.zeros(1, dtype=torch.long)
    cut = model.locate(encoded, long, torch.ones(1, 60, dtype=torch.bool), one, one > 0)
    kept = model.locate(encoded, long[:, :24], torch.ones(1, 24, dtype=torch.bool), one, one > 0)
    assert torch.equal(cut.box, kept.box)


def test_object_tokens_are_proposals_read_by_the_sampler(tiny):
    model = tiny.loaded("kit").model.model
    encoded = model.encode_pictures(torch.randn(2, 3, 64, 64))
    count = model.config.object_tokens
    assert encoded.objects.shape == (2, count, 64)
    assert encoded.object_boxes.shape == (2, count, 4)
    assert ((encoded.object_scores > 0) & (encoded.object_scores < 1)).all()
    assert encoded.object_distinct[:, 0].all()
    boxes = encoded.object_boxes[1]
    points, anchors, neighbors = model.object_pattern(boxes)
    assert ((points >= boxes[:, None, :2]) & (points <= boxes[:, None, 2:])).all()
    vectors = model.encode_regions(encoded, points, anchors, neighbors, torch.ones(count, dtype=torch.long))
    second = torch.ones(count, dtype=torch.long)
    sampled = model.sampler(encoded.maps, points, anchors, neighbors, second)
    hint = model.namer.hint(namer_features(encoded.maps, points, second, sampled))
    lengths = (vectors - hint).norm(dim=-1)
    torch.testing.assert_close(
        lengths, torch.full_like(lengths, model.region_scale.item()), rtol=1e-3, atol=1e-3
    )


def test_a_new_model_starts_as_designed(tiny):
    model = FerretModel(tiny.kit())
    assert model.region_scale.item() == pytest.approx(3.2)
    assert not model.object_position.weight.any()
    assert not model.locator.merge.any()


def test_any_causal_language_model_fits_and_ties_its_head(tiny, pictures):
    config = tiny.paper()
    vocabulary = config.text_config.vocab_size
    config.text_config = GPT2Config(vocab_size=vocabulary, n_embd=64, n_layer=1, n_head=2, n_positions=256)
    config.tie_word_embeddings = True
    model = FerretForConditionalGeneration(config).eval()
    assert model.lm_head.weight is model.get_input_embeddings().weight
    processor = tiny.loaded("paper").processor
    inputs = processor(pictures[0], processor.conversation.prompt(WHAT), [Point(1, 1)])
    assert (
        model.generate(**inputs, max_new_tokens=2, do_sample=False).shape[1]
        == inputs["input_ids"].shape[1] + 2
    )
