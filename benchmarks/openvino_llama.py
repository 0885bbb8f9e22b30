"""A LLaMA-like language model in OpenVINO, for comparison: the same weights in eight bits, a cache in its state.

The graph is the one that OpenVINO's own tools make of such a model (weights of one scale for each output,
attention over a cache that the plug-in keeps), so that its fused kernels are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op
from openvino.op.util import Variable, VariableInfo

from openferret.generation.native.packing import LlamaShape

Array = NDArray[Any]


class OpenVinoLlama:
    """One sequence that grows.

    Args:
        shape: of the model.
        tensor: gives a weight by its name in `LlamaModel`, or "lm_head.weight".
        threads: that it may use.
    """

    def __init__(self, shape: LlamaShape, tensor: Callable[[str], Array], threads: int) -> None:
        model = _Graph(shape, tensor).build()
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        self._request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
        self.length = 0

    def reset(self) -> None:
        """Forgets everything."""
        self._request.reset_state()
        self.length = 0

    def append(self, embeddings: Array) -> Array:
        """Adds tokens, float32 [n, H]: logits after the last, [V]."""
        count = len(embeddings)
        positions = np.arange(self.length, self.length + count, dtype=np.int64)
        inputs = {
            "embeddings": embeddings[None],
            "positions": positions[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        result = self._request.infer(inputs, share_inputs=True)
        self.length += count
        logits: Array = result["logits"][0, -1]
        return logits


class _Graph:
    """The model, layer by layer."""

    def __init__(self, shape: LlamaShape, tensor: Callable[[str], Array]) -> None:
        self.shape = shape
        self.tensor = tensor
        self.assigned: list[Any] = []
        self.embeddings = op.parameter([-1, -1, shape.hidden], np.float32, name="embeddings")
        self.positions = op.parameter([-1, -1], np.int64, name="positions")
        self.beams = op.parameter([-1], np.int32, name="beam_idx")
        for one, name in (
            (self.embeddings, "embeddings"),
            (self.positions, "positions"),
            (self.beams, "beam_idx"),
        ):
            one.output(0).get_tensor().set_names({name})

    def build(self) -> Any:
        """The whole model."""
        hidden: Any = self.embeddings
        turns = self._rotary()
        for index in range(self.shape.layers):
            name = f"layers.{index}"
            normed = self._norm(hidden, f"{name}.input_layernorm.weight")
            hidden = op.add(hidden, self._attention(normed, name, turns))
            normed = self._norm(hidden, f"{name}.post_attention_layernorm.weight")
            gate = op.swish(self._linear(normed, f"{name}.mlp.gate_proj.weight"))
            fed = op.multiply(gate, self._linear(normed, f"{name}.mlp.up_proj.weight"))
            hidden = op.add(hidden, self._linear(fed, f"{name}.mlp.down_proj.weight"))
        last = op.gather(hidden, op.constant(np.array([-1])), op.constant(np.int64(1)))
        logits = self._linear(self._norm(last, "norm.weight"), "lm_head.weight")
        logits.output(0).get_tensor().set_names({"logits"})
        inputs = [self.embeddings, self.positions, self.beams]
        return ov.Model([op.result(logits)], self.assigned, inputs, "llama")

    def _linear(self, hidden: Any, name: str) -> Any:
        weight = self.tensor(name).astype(np.float32)
        scale = np.abs(weight).max(1, keepdims=True) / 127
        rounded = np.rint(weight / np.where(scale > 0, scale, 1)).astype(np.int8)
        whole = op.multiply(
            op.convert(op.constant(rounded), np.float32), op.constant(scale.astype(np.float32))
        )
        return op.matmul(hidden, whole, False, True)

    def _norm(self, hidden: Any, name: str) -> Any:
        squares = op.power(hidden, op.constant(np.float32(2)))
        mean = op.reduce_mean(squares, op.constant(np.array([-1])), True)
        root = op.sqrt(op.add(mean, op.constant(np.float32(self.shape.epsilon))))
        scaled = op.multiply(hidden, op.divide(op.constant(np.float32(1)), root))
        return op.multiply(scaled, op.constant(self.tensor(name).astype(np.float32)))

    def _rotary(self) -> tuple[Any, Any]:
        half = np.arange(0, self.shape.head_width, 2, dtype=np.float32) / self.shape.head_width
        frequencies = op.constant((1 / self.shape.rope_theta**half).astype(np.float32)[None, None])
        places = op.unsqueeze(op.convert(self.positions, np.float32), op.constant(np.array([-1])))
        angles = op.multiply(places, frequencies)
        both = op.unsqueeze(op.concat([angles, angles], -1), op.constant(np.array([1])))
        return op.cos(both), op.sin(both)

    def _turn(self, heads: Any, turns: tuple[Any, Any]) -> Any:
        half = self.shape.head_width // 2
        first, second = op.variadic_split(
            heads, op.constant(np.int64(-1)), op.constant(np.array([half, half]))
        ).outputs()
        swapped = op.concat([op.negative(second), first], -1)
        return op.add(op.multiply(heads, turns[0]), op.multiply(swapped, turns[1]))

    def _attention(self, hidden: Any, name: str, turns: tuple[Any, Any]) -> Any:
        shape, width = self.shape, self.shape.head_width

        def heads(part: str, count: int) -> Any:
            flat = self._linear(hidden, f"{name}.self_attn.{part}_proj.weight")
            split = op.reshape(flat, op.constant(np.array([0, 0, count, width])), True)
            return op.transpose(split, op.constant(np.array([0, 2, 1, 3])))

        query = self._turn(heads("q", shape.heads), turns)
        key = self._cached(self._turn(heads("k", shape.key_heads), turns), f"{name}.key")
        value = self._cached(heads("v", shape.key_heads), f"{name}.value")
        mixed = op.scaled_dot_product_attention(
            query, self._shared(key), self._shared(value), attention_mask=self._mask(query, key)
        )
        together = op.transpose(mixed, op.constant(np.array([0, 2, 1, 3])))
        flat = op.reshape(together, op.constant(np.array([0, 0, shape.hidden])), True)
        return self._linear(flat, f"{name}.self_attn.o_proj.weight")

    def _cached(self, fresh: Any, name: str) -> Any:
        shape = [-1, self.shape.key_heads, -1, self.shape.head_width]
        info = VariableInfo()
        info.data_shape, info.data_type, info.variable_id = ov.PartialShape(shape), ov.Type.f32, name
        variable = Variable(info)
        batch = op.gather(op.shape_of(self.embeddings), op.constant(np.array([0])), op.constant(np.int64(0)))
        sides = op.concat([batch, op.constant(np.array([self.shape.key_heads, 0, self.shape.head_width]))], 0)
        held = op.read_value(op.broadcast(op.constant(np.float32(0)), sides), variable)
        chosen = op.gather(held, self.beams, op.constant(np.int64(0)))
        whole = op.concat([chosen, fresh], 2)
        self.assigned.append(op.assign(whole, variable))
        return whole

    def _shared(self, heads: Any) -> Any:
        """Each head of keys or values for the query heads that share it."""
        shared, width = self.shape.heads // self.shape.key_heads, self.shape.head_width
        sides = op.shape_of(heads)
        batch, length = (
            op.gather(sides, op.constant(np.array([axis])), op.constant(np.int64(0))) for axis in (0, 2)
        )
        tail = [length, op.constant(np.array([width]))]
        target = op.concat([batch, op.constant(np.array([self.shape.key_heads, shared])), *tail], 0)
        wide = op.broadcast(op.unsqueeze(heads, op.constant(np.array([2]))), target, "BIDIRECTIONAL")
        return op.reshape(wide, op.constant(np.array([0, self.shape.heads, -1, width])), True)

    def _mask(self, query: Any, key: Any) -> Any:
        """Float [1, 1, new, all]: 0 where a token may look, very low where it lies in the future."""
        zero = op.constant(np.int64(0))
        new = op.gather(op.shape_of(query), op.constant(np.array([2])), zero)
        everything = op.gather(op.shape_of(key), op.constant(np.array([2])), zero)
        scalar = [op.squeeze(one, op.constant(np.array([0]))) for one in (new, everything)]
        ends = op.range(op.subtract(scalar[1], scalar[0]), scalar[1], op.constant(np.int64(1)), "i64")
        columns = op.range(zero, scalar[1], op.constant(np.int64(1)), "i64")
        later = op.greater(
            op.unsqueeze(columns, op.constant(np.array([0]))), op.unsqueeze(ends, op.constant(np.array([1])))
        )
        mask = op.select(later, op.constant(np.float32(-65504)), op.constant(np.float32(0)))
        return op.unsqueeze(mask, op.constant(np.array([0, 1])))
