"""What the machine allows, for benchmarks/inference.py."""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL.Image import Image
from torch.utils.flop_counter import FlopCounterMode

from openferret import Ferret


def limits(image: Image, seconds: Callable[[Callable[[], object]], float]) -> dict[str, float]:
    """What the machine can do, and what there is to do.

    Bytes a second from memory and multiplications a second in fp32, the best of several; bytes of a token's weights as
    our engine stores them; weights of the language model; multiplications and additions of a picture's encoding.

    Args:
        image: that is encoded.
        seconds: measures a call.
    """
    many = torch.ones(1 << 27)  # 512 MB, far beyond any cache
    square = torch.ones(2048, 2048)
    reading = min(seconds(lambda: many @ many) for _ in range(7))
    multiplying = min(seconds(lambda: square @ square) for _ in range(7))
    loaded = Ferret.load(engine="fast").loaded
    engine = loaded.engine
    shape = engine.shape
    attention = shape.hidden * (2 * shape.hidden + 2 * shape.key_heads * shape.head_width)
    weights = shape.layers * (attention + 3 * shape.hidden * shape.intermediate)
    pixels = torch.from_numpy(loaded.processor.pixel_values([image]))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        loaded.model.model.encode_pictures(pixels)
    return {
        "memory, GB/s": many.nbytes / reading / 1e9,
        "fp32, GFLOP/s": 2 * 2048**3 / multiplying / 1e9,
        "bytes of a token's weights": float(sum(one.nbytes for one in engine._weights.arrays.values())),
        "weights of the layers": float(weights),
        "weights of the head": float(shape.vocabulary * shape.hidden),
        "GFLOP of a picture": counter.get_total_flops() / 1e9,
    }


def bounds(
    limit: dict[str, float], lengths: dict[str, int], tokens: int, name_tokens: int
) -> dict[str, float]:
    """Least seconds of some rows: our weights at the memory's speed, or fp32 arithmetic at the processor's.

    The engine multiplies whole numbers, which is faster than fp32: the reading of a prompt may beat its bound.

    Args:
        limit: of `limits`.
        lengths: tokens of a picture and of a question.
        tokens: of the row of plain tokens.
        name_tokens: of a short answer.
    """
    step = limit["bytes of a token's weights"] / limit["memory, GB/s"] / 1e9
    arithmetic = limit["fp32, GFLOP/s"] * 1e9

    def prefill(length: int) -> float:
        return max(step, 2 * length * limit["weights of the layers"] / arithmetic)

    encode = limit["GFLOP of a picture"] * 1e9 / arithmetic
    picture, question = prefill(lengths["picture"]), prefill(lengths["question"])
    return {
        "picture encode": encode,
        "first token, new picture": encode + picture + question,
        "first token, second question": question,
        f"{tokens} tokens": tokens * step,
        "16 regions of one picture": prefill(16 * lengths["question"]) + (name_tokens - 1) * step,
        "8 pictures": 8 * (encode + picture + question + (name_tokens - 1) * step),
        "prefill of the picture": picture,
        "prefill of a question": question,
    }
