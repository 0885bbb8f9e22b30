"""A language model's weights in four or eight bits, laid out as kernels.h reads them, in one file.

The file begins with a line of JSON: where each array lies. It is read into one stretch of memory, on huge pages where
the system has them. A token needs all of it, and takes 5 to 15 % longer from a mapped file, whose pages are small.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openferret.generation.native.matrices import (
    BLOCK,
    GROUP,
    Array,
    LowRank,
    Part,
    pack_matrix,
    packed_parts,
)

VERSION = 2
PARTS = ("query_key_value", "output", "gate_up", "down")  # matrices of a layer
_JOINED = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
_ALIGNMENT = 64  # bytes: a cache line, so that no vector is read from two
_LONGEST_HEADER = 1 << 20


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of a LLaMA-like language model.

    Attributes:
        hidden: width of embeddings.
        intermediate: width between the two products of a feed-forward layer.
        heads: of queries.
        key_heads: of keys and values.
        head_width: of each.
        layers: how many.
        vocabulary: rows of the head.
        epsilon: of the norms.
        rope_theta: base of the rotary embedding's wavelengths.
    """

    hidden: int
    intermediate: int
    heads: int
    key_heads: int
    head_width: int
    layers: int
    vocabulary: int
    epsilon: float
    rope_theta: float


def why_not(config: Mapping[str, Any]) -> str | None:
    """Why a language model is not one that the fast engine knows; None if it is.

    Args:
        config: its configuration's values, with their defaults.
    """
    if config["model_type"] != "llama":
        return f"its language model is a {config['model_type']}, not a LLaMA"
    heads, hidden, width = config["num_attention_heads"], config["hidden_size"], _head_width(config)
    checks = (
        (config["hidden_act"] == "silu", f"its language model's activation is {config['hidden_act']}"),
        (not config["attention_bias"] and not config["mlp_bias"], "its language model's layers have biases"),
        (_rope(config).get("rope_type", "default") == "default", "its rotary embedding is scaled"),
        (heads * width == hidden, "its heads are not as wide as its embeddings"),
        (width % BLOCK == 0, f"its heads are {width} wide, no multiple of 16"),
        (heads % config["num_key_value_heads"] == 0, "its query heads do not share keys evenly"),
        (hidden % GROUP == 0, f"its embeddings are {hidden} wide, no multiple of 32"),
        (config["intermediate_size"] % GROUP == 0, "its layers' width is no multiple of 32"),
    )
    return next((reason for holds, reason in checks if not holds), None)


def shape_of(config: Mapping[str, Any]) -> LlamaShape:
    """Sizes, from the values of a configuration for which `why_not` is None."""
    return LlamaShape(
        config["hidden_size"],
        config["intermediate_size"],
        config["num_attention_heads"],
        config["num_key_value_heads"],
        _head_width(config),
        config["num_hidden_layers"],
        config["vocab_size"],
        config["rms_norm_eps"],
        _rope(config).get("rope_theta", 10_000.0),
    )


def _head_width(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return config.get("rope_parameters") or {}


def packed_arrays(
    shape: LlamaShape,
    tensor: Callable[[str], Array],
    update: Callable[[str], LowRank | None] = lambda _: None,
) -> Iterator[tuple[str, Array]]:
    """Every array of the file by its name, one at a time.

    Args:
        shape: of the model.
        tensor: gives a weight by its name in `LlamaModel`, or "lm_head.weight".
        update: what an adapter added to it; None where nothing is known of one.
    """

    def floats(name: str) -> Array:
        return np.ascontiguousarray(tensor(name), np.float32)

    half = np.arange(0, shape.head_width, 2, dtype=np.float32) / np.float32(shape.head_width)
    yield "frequencies", (1 / np.float32(shape.rope_theta) ** half).astype(np.float32)
    for index in range(shape.layers):
        layer = f"layers.{index}"
        yield f"{layer}.attention_norm", floats(f"{layer}.input_layernorm.weight")
        yield f"{layer}.feed_norm", floats(f"{layer}.post_attention_layernorm.weight")
        for name, places in zip(PARTS, _JOINED, strict=True):
            names = [f"{layer}.{place}.weight" for place in places]
            parts = [Part(floats(one), update(one)) for one in names]
            yield from packed_parts(f"{layer}.{name}", parts, in_turns=name == "gate_up")
    yield "final_norm", floats("norm.weight")
    yield from zip(("head.data", "head.scales"), pack_matrix(floats("lm_head.weight")), strict=True)


@dataclass(frozen=True)
class PackedWeights:
    """A language model in four or eight bits.

    Attributes:
        shape: its sizes.
        arrays: by the names of `packed_arrays`.
    """

    shape: LlamaShape
    arrays: dict[str, Array]


def write_packed(path: Path, weights: PackedWeights) -> None:
    """Writes the file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    places: dict[str, dict[str, Any]] = {}
    offset = 0
    for name, array in weights.arrays.items():
        places[name] = {"dtype": array.dtype.str, "shape": array.shape, "offset": offset}
        offset += _room(array)
    header = json.dumps(
        {"version": VERSION, "shape": asdict(weights.shape), "bytes": offset, "arrays": places}
    )
    length = -(-(len(header) + 1) // _ALIGNMENT) * _ALIGNMENT
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")  # other processes may be making it too
    with partial.open("wb") as file:
        file.write(header.encode().ljust(length - 1) + b"\n")
        for name, array in weights.arrays.items():
            file.seek(length + places[name]["offset"])
            file.write(np.ascontiguousarray(array).data)
        file.truncate(length + offset)
    partial.replace(path)


def read_packed(path: Path) -> PackedWeights:
    """Reads a file of `write_packed` into one stretch of memory.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or of another version.
    """
    with path.open("rb") as file:
        line = file.readline(_LONGEST_HEADER)
        header = json.loads(line)
        if header["version"] != VERSION or path.stat().st_size != len(line) + header["bytes"]:
            raise ValueError(f"{path.name} is of another version, or cut off")
        memory = _stretch(header["bytes"])
        if file.readinto(memory.data) != len(memory):
            raise ValueError(f"{path.name} is cut off")
    arrays = {}
    for name, place in header["arrays"].items():
        dtype, sides = np.dtype(place["dtype"]), tuple(place["shape"])
        size = int(np.prod(sides)) * dtype.itemsize
        arrays[name] = memory[place["offset"] : place["offset"] + size].view(dtype).reshape(sides)
    return PackedWeights(LlamaShape(**header["shape"]), arrays)


def gathered(weights: PackedWeights) -> PackedWeights:
    """The same weights as `read_packed` would give them, in one stretch of memory."""
    memory = _stretch(sum(_room(one) for one in weights.arrays.values()))
    arrays, offset = {}, 0
    for name, array in weights.arrays.items():
        arrays[name] = memory[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
        arrays[name][...] = array
        offset += _room(array)
    return PackedWeights(weights.shape, arrays)


def _stretch(size: int) -> Array:
    """Bytes from a cache line's start on. NumPy asks for huge pages for what is as large as a model."""
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size]


def _room(array: Array) -> int:
    """Bytes up to the next cache line."""
    return -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
