"""The detectors of transformers, with small random weights: their code path, not what they find."""

import math

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from openferret.data.pseudo_grounding.detectors import GroundingDino, Owl
from openferret.data.pseudo_grounding.grounding import Grounding, ground_dialogue
from openferret.data.records import Dialogue, Record
from openferret.data.schema import PictureReference, Sample, Turn
from openferret.errors import WeightsError
from openferret.regions import Box

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 80, 3), np.uint8))
PHRASES = ["dog", "red ball", "the very long and unlikely name of a thing that nobody would ever say"]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    ".",
    "a",
    "photo",
    "of",
    "dog",
    "man",
    "red",
    "ball",
    "the",
]
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def write_grounding_dino(folder):
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    tokenizer = transformers.BertTokenizer(vocab=str(folder / "vocab.txt"))
    images = transformers.GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    layers = {"encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "d_model": 32, "num_queries": 9}
    configuration = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            image_size=64,
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            window_size=2,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=transformers.BertConfig(vocab_size=len(WORDS), **SMALL),
        max_text_len=16,
        **layers,
        **heads,
    )
    transformers.GroundingDinoForObjectDetection(configuration).save_pretrained(folder)
    transformers.GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)


def write_owl(folder):
    letters = [letter + end for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
    names = ["!", "<|startoftext|>", "<|endoftext|>", *letters]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16)
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    configuration = transformers.Owlv2Config(
        text_config={"vocab_size": len(names), "max_position_embeddings": 16, **ends, **SMALL},
        vision_config={"image_size": 64, "patch_size": 16, **SMALL},
        projection_dim=16,
    )
    images = transformers.Owlv2ImageProcessorPil(size={"height": 64, "width": 64})
    transformers.Owlv2ForObjectDetection(configuration).save_pretrained(folder)
    transformers.Owlv2Processor(images, tokenizer).save_pretrained(folder)


@pytest.fixture(scope="module", params=[(write_grounding_dino, GroundingDino), (write_owl, Owl)])
def opened(request, tmp_path_factory):
    """A folder with a detector of random weights, and the class that opens it."""
    write, kind = request.param
    folder = tmp_path_factory.mktemp("detector")
    torch.manual_seed(0)
    write(folder)
    return str(folder), kind


def test_every_phrase_gets_its_boxes_in_pixels(opened):
    folder, kind = opened
    found = kind(folder, least=0.0).locate(IMAGE, PHRASES)
    assert len(found) == len(PHRASES)
    boxes = [one for each in found for one in each]
    assert boxes
    assert all(0 < one.score <= 1 for one in boxes)
    assert max(one.box.x2 for one in boxes) > 2  # pixels, not parts of the picture


def test_the_same_is_found_whatever_the_batch(opened):
    folder, kind = opened
    if kind is Owl:
        pytest.skip("all its phrases go in one pass")
    together, alone = (kind(folder, least=0.0, batch=size).locate(IMAGE, PHRASES[:2]) for size in (2, 1))
    for one, other in zip(together, alone, strict=True):
        assert [box.score for box in one] == pytest.approx([box.score for box in other], abs=1e-4)


def test_a_dialogue_is_grounded_by_it(opened):
    folder, kind = opened
    record = Record(PictureReference("1.jpg", 80, 48, "llava", "1"))
    dialogue = Dialogue((Turn("user", "What is here?"), Turn("assistant", "A dog with a red ball.")), "7")
    sample = ground_dialogue(record, dialogue, IMAGE, kind(folder), Grounding(least=0.0, largest=1.0))
    assert sample is not None
    assert Sample.from_dict(sample.to_dict()) == sample
    assert all(box.x2 <= 80 and box.y2 <= 48 for box in sample.regions)


def test_what_is_no_box_is_left_out(opened, monkeypatch):
    folder, kind = opened
    detector = kind(folder)
    sides = torch.tensor([[1.0, 2, 3, 4], [math.nan, 0, 1, 1], [0, 0, math.inf, 1]])
    result = {"boxes": sides, "scores": torch.full((3,), 0.9), "labels": torch.zeros(3)}
    monkeypatch.setattr(
        detector._processor, "post_process_grounded_object_detection", lambda *_, **__: [result]
    )
    (found,) = detector.locate(IMAGE, ["dog"])
    assert [one.box for one in found] == [Box(1, 2, 3, 4)]


@pytest.mark.parametrize("kind", [GroundingDino, Owl])
def test_a_model_of_another_kind_is_one_line(tmp_path, kind):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(WeightsError, match="zero-shot object detector") as error:
        kind(str(tmp_path))
    assert "\n" not in str(error.value)
