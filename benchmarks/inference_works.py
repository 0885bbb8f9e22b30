"""What each engine does for each row of benchmarks/inference.py."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openferret import Box, Ferret, prompts
from openferret.generation.native.engine import NativeEngine
from openferret.generation.native.packing import PackedWeights, gathered, packed_arrays, shape_of
from openferret.generation.prefix import Continuation
from openferret.generation.questions import write_question
from openferret.images import load_image

PICTURE = Path(__file__).parents[1] / "examples" / "pictures" / "astronaut.jpg"
TOKENS = 32  # that a speed is measured over
BOX_TOKENS = 9  # "<phrase>a woman<box>" and four locations, as a plain decode would write them
NAME_TOKENS = 3  # "a man" and the end of the answer
PHRASE = "a woman"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}

Work = Callable[[], object]


@dataclass(frozen=True)
class Plain:
    """Plain transformers: the picture goes in with every question."""

    model: Any
    processor: Any
    pixels: torch.Tensor

    def generate(self, texts: Sequence[str], regions: Sequence[Sequence[Box]], tokens: int) -> None:
        """Exactly `tokens` tokens for each of the texts, all in one batch."""
        image, conversation = load_image(PICTURE), self.processor.conversation
        prompts_of = [conversation.prompt(text) for text in texts]
        inputs = self.processor([image] * len(texts), prompts_of, [list(one) for one in regions])
        with torch.inference_mode():
            self.model.generate(
                **inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0
            )

    def encode(self) -> None:
        """The picture through tower, projector and proposer."""
        with torch.inference_mode():
            self.model.model.encode_pictures(self.pixels.to(self.model.dtype))


def works_of_all(precisions: Sequence[str]) -> tuple[dict[str, dict[str, Work]], dict[str, int]]:
    """What each engine does for each row; and how many tokens a picture and a question are.

    Args:
        precisions: of plain transformers: "fp32", and also "bf16".
    """
    plain = {f"plain {name}": plain_of(PRECISIONS[name]) for name in precisions}
    ferret = Ferret.load(engine="fast")
    model, processor, engine = ferret.loaded.model, ferret.loaded.processor, ferret.loaded.engine
    image = load_image(PICTURE)
    scene, box = ferret.encode(image), Box(100, 50, 300, 300)
    boxes = [Box(x, y, x + 120, y + 120) for x in range(20, 340, 90) for y in range(20, 340, 90)][:16]
    refer = prompts.REFER.format(region="[0]")
    asked = write_question(processor, refer, [box], image.size)
    words = processor.region_words(box, *image.size)
    question = prompts.REFER.format(region=words)
    ids = processor.tokenize(processor.expand_pictures(processor.conversation.opening))
    pixels = torch.from_numpy(processor.pixel_values([image]))
    with torch.inference_mode():
        prefix = model.model.embed(torch.tensor([ids]), scene.prefix.encoded)[0].clone()
        later = model.model.embed(torch.tensor([asked.ids]), regions=torch.zeros(1, prefix.shape[1]))[
            0
        ].clone()
    one = prefix[-1:]

    def second() -> Any:
        return Continuation(model, processor, scene.prefix, 1).append([asked.ids], asked.regions)

    def tokens(rows: Any) -> None:
        for _ in range(TOKENS):
            rows.append([one])

    def regions_apart(name: str) -> None:
        for region in boxes:
            text = prompts.REFER.format(region=processor.region_words(region, *image.size))
            plain[name].generate([text], [[region]], NAME_TOKENS)

    works: dict[str, dict[str, Work]] = {
        "picture encode": {name: one.encode for name, one in plain.items()},
        "first token, new picture": {
            name: lambda one=one: one.generate([question], [[box]], 1) for name, one in plain.items()
        },
        "first token, second question": {
            name: lambda one=one: one.generate([question], [[box]], 1) for name, one in plain.items()
        },
        f"{TOKENS} tokens": {name: lambda one=one: plain_tokens(one) for name, one in plain.items()},
        "a located box": {
            name: lambda one=one: one.generate([prompts.GROUND.format(phrase=PHRASE)], [[]], BOX_TOKENS)
            for name, one in plain.items()
        },
        "16 regions of one picture": {name: lambda name=name: regions_apart(name) for name in plain},
        "8 pictures": {
            name: lambda one=one: one.generate([question] * 8, [[box]] * 8, NAME_TOKENS)
            for name, one in plain.items()
        },
        "prefill of the picture": {},
        "prefill of a question": {},
    }
    ours: dict[str, Work] = {
        "picture encode": lambda: model.model.encode_pictures(pixels),
        "first token, new picture": lambda: Continuation(
            model, processor, ferret.encode(image).prefix, 1
        ).append([asked.ids], asked.regions),
        "first token, second question": second,
        f"{TOKENS} tokens": lambda: tokens(engine.go_on(scene.prefix.past, 1)),
        "a located box": lambda: scene.ground(PHRASE, threshold=0.0),
        "16 regions of one picture": lambda: scene.refer_many(boxes, max_new_tokens=NAME_TOKENS),
        "8 pictures": lambda: [ferret.encode(image).refer(box, max_new_tokens=NAME_TOKENS) for _ in range(8)],
        "prefill of the picture": lambda: engine.start(prefix),
        "prefill of a question": lambda: engine.go_on(scene.prefix.past, 1).append([later]),
    }
    for name, work in ours.items():
        works[name]["ours"] = torch.inference_mode()(work)
    language = plain["plain fp32"].model, prefix.numpy(), later.numpy()
    for engine_name, further in (("ours int8", eight_bit_works), ("openvino", openvino_works)):
        for name, work in further(*language).items():
            works[name][engine_name] = work
    return works, {"picture": len(prefix), "question": len(later)}


def plain_of(dtype: torch.dtype) -> Plain:
    """Kit as transformers opens it."""
    loaded = Ferret.load(engine="reference", dtype=dtype).loaded
    pixels = torch.from_numpy(loaded.processor.pixel_values([load_image(PICTURE)]))
    return Plain(loaded.model, loaded.processor, pixels)


def plain_tokens(plain: Plain) -> None:
    """`TOKENS` tokens of `generate` behind a single one: no picture, which favours it."""
    ids = torch.tensor([[1]])
    with torch.inference_mode():
        plain.model.generate(
            input_ids=ids, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False, pad_token_id=0
        )


def weights_of(model: Any) -> Callable[[str], np.ndarray[Any, Any]]:
    """Its language model's weights by their names in `LlamaModel`."""
    state = model.model.language_model.state_dict()
    head = model.lm_head.weight.detach()
    return lambda name: (head if name == "lm_head.weight" else state[name]).numpy()


def eight_bit_works(model: Any, prefix: np.ndarray[Any, Any], later: np.ndarray[Any, Any]) -> dict[str, Work]:
    """Our engine as it runs models whose weights are not known to be of four bits."""
    shape = shape_of(model.config.text_config.to_dict())
    weights = PackedWeights(shape, dict(packed_arrays(shape, weights_of(model))))
    engine = NativeEngine(gathered(weights))
    whole, question = torch.from_numpy(prefix), torch.from_numpy(later)
    past = engine.start(whole)

    def tokens() -> None:
        rows = engine.go_on(past, 1)
        for _ in range(TOKENS):
            rows.append([whole[-1:]])

    return {
        f"{TOKENS} tokens": tokens,
        "prefill of the picture": lambda: engine.start(whole),
        "prefill of a question": lambda: engine.go_on(past, 1).append([question]),
    }


def openvino_works(model: Any, prefix: np.ndarray[Any, Any], later: np.ndarray[Any, Any]) -> dict[str, Work]:
    """OpenVINO's part of the rows that are the language model's alone; none where it is not installed."""
    try:
        from openvino_llama import OpenVinoLlama
    except ImportError:
        print("openvino is not installed: its rows are left out", file=sys.stderr)
        return {}
    outside = OpenVinoLlama(
        shape_of(model.config.text_config.to_dict()), weights_of(model), torch.get_num_threads()
    )
    one = np.ascontiguousarray(prefix[-1:])

    def anew(vectors: np.ndarray[Any, Any]) -> None:
        outside.reset()
        outside.append(vectors)

    def tokens() -> None:
        anew(prefix[:1])
        for _ in range(TOKENS):
            outside.append(one)

    return {
        f"{TOKENS} tokens": tokens,
        "prefill of the picture": lambda: anew(prefix),
        "prefill of a question": lambda: anew(later),
    }
