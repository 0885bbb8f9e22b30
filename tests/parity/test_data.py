"""Pictures, prompts, labels, masks and training items against the reference."""

import json
import random

import numpy as np
import pytest
from PIL import Image

from openferret.data.formats.labels import label_conversation
from openferret.data.formats.reference_json import read_items, resample
from openferret.processing.reference import coordinates_mask


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def as_reference(processor, ids):
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    return [-200 if one == image else one for one in ids]


@pytest.mark.parametrize("size", [84, 336])
def test_preprocessing(parity, read_npz, toy_processor, size):
    arrays, meta = read_npz(parity / "model/preprocess.npz")
    picture = Image.open(parity / "model/pre_input.png").convert("RGB")
    toy_processor.image_size = size
    try:
        found = toy_processor.pixel_values([picture])[0]
    finally:
        toy_processor.image_size = 336
    # One step of 1/255 in the picture's own range.
    step = 1 / 255 / np.array(meta["image_std"])[:, None, None]
    assert (abs(found - arrays[f"size_{size}"]) <= step).all()
    np.testing.assert_allclose(found, arrays[f"size_{size}"], atol=1e-5)


def test_prompts_and_token_ids(parity, toy_processor):
    expected = read_json(parity / "data/prompts.json")
    assert expected["system"] in toy_processor.conversation.opening
    words = toy_processor.conversation
    for case in expected["prompts"]:
        text = ""
        for number, turn in enumerate(case["turns"]):
            if number % 2 == 0:
                head = words.opening + words.first if not number else words.following
                text += head + turn.removeprefix("<image>\n") + words.answer
            elif turn is not None:
                text += f" {turn}{words.closing}"
        assert text.removeprefix("<s>") == case["prompt"]
        assert as_reference(toy_processor, toy_processor.tokenize(text)) == case["ids"]


def test_token_ids_survive_saving(parity, toy_processor, tmp_path):
    from openferret.processing.processor import FerretProcessor

    toy_processor.save_pretrained(tmp_path)
    opened = FerretProcessor.from_pretrained(tmp_path)
    assert opened.reference_regions
    for case in read_json(parity / "data/prompts.json")["prompts"]:
        assert as_reference(opened, opened.tokenize("<s>" + case["prompt"])) == case["ids"]


def test_label_masking(parity, toy_processor):
    for case in read_json(parity / "data/label_masking.json"):
        said = [turn["value"].replace("<image>", "").strip() for turn in case["conversations"]]
        ids, labels = label_conversation(toy_processor, list(zip(said[::2], said[1::2], strict=True)))
        assert as_reference(toy_processor, ids) == case["input_ids"]
        assert labels == case["labels"]
        supervised = toy_processor.tokenizer.decode([one for one in labels if one != -100])
        assert supervised.replace(" ", "") == case["supervised_text"].replace(" ", "")


def test_masks_of_points_and_boxes(parity):
    for case in read_json(parity / "data/mask_cases.json"):
        mask = coordinates_mask(case["coor"], case["w"], case["h"])
        pixels = np.argwhere(mask.T)
        assert list(mask.T.shape) == case["shape"]
        assert len(pixels) == case["pixels"]
        assert (pixels[0].tolist(), pixels[-1].tolist()) == (case["first"], case["last"])


def test_training_items(parity, read_npz, toy_processor):
    arrays, meta = read_npz(parity / "data/dataset_samples.npz")
    assert meta
    for number, case in enumerate(meta):
        style = case["style"].rsplit("|", 1)[-1]
        generator = random.Random(case["seed"])
        (item,) = read_items(parity / "data" / case["file"], style, generator)
        ids, labels = label_conversation(toy_processor, item.turns)
        assert as_reference(toy_processor, ids) == case["input_ids"]
        assert labels == case["labels"]
        recorded = [key for key in arrays if key.startswith(f"{number}/mask/")]
        assert len(recorded) == len(item.masks)
        for place, mask in enumerate(item.masks):
            shape = arrays[f"{number}/mask_shape/{place}"]
            packed = np.unpackbits(arrays[f"{number}/mask/{place}"])[: shape.prod()]
            np.testing.assert_array_equal(mask.T, packed.reshape(shape).astype(bool))


def test_mixture(parity):
    case = read_json(parity / "data/extend_list.json")
    generator = random.Random(case["seed"])
    for times, expected in case["extend_list"].items():
        assert resample(range(10), float(times), generator) == expected
