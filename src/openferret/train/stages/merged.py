"""The language model's layers with LoRA multiplied into their matrices, for accelerators.

LoRA beside every matrix is several small kernels (and casts) for one large one, and an accelerator then waits for its
processor. Here `W + s U D` is computed once a step, for all layers at once. The function and its gradients are the
same, and the parameters are those of peft's modules. On a processor it would not pay: each matrix gets a gradient of
its own size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

_JOINED = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
# Other kernels plan anew for every length of the sequences.
_ATTENTION = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class MergedLayers:
    """A Llama under LoRA, computed with merged matrices.

    Args:
        decoder: `LlamaModel` whose linear layers peft has wrapped; its parameters are read at every call.
        dtype: of the products.
    """

    def __init__(self, decoder: Any, dtype: torch.dtype) -> None:
        self._decoder = decoder
        self._dtype = dtype
        config = decoder.config
        self._heads: int = config.num_attention_heads
        self._shared: int = config.num_key_value_heads
        self._width: int = config.hidden_size // config.num_attention_heads
        self._epsilon: float = config.rms_norm_eps
        self._linears = [
            [[layer.get_submodule(name) for layer in decoder.layers] for name in names] for names in _JOINED
        ]
        self._bases = [
            [torch.stack([one.base_layer.weight.detach().float() for one in layers]) for layers in part]
            for part in self._linears
        ]

    def weights(self) -> list[tuple[Tensor, ...]]:
        """Of each layer what reads (queries, keys, values), what joins the heads, what opens and what closes."""
        merged = []
        with torch.autocast(self._bases[0][0].device.type, enabled=False):
            for part, bases in zip(self._linears, self._bases, strict=True):
                rows = []
                for layers, base in zip(part, bases, strict=True):
                    down = torch.stack([one.lora_A["default"].weight for one in layers])
                    up = torch.stack([one.lora_B["default"].weight for one in layers])
                    scale = layers[0].scaling["default"]
                    rows.append(torch.baddbmm(base, up, down, alpha=scale).to(self._dtype))
                merged.append((rows[0] if len(rows) == 1 else torch.cat(rows, 1)).unbind(0))
        return list(zip(*merged, strict=True))

    def __call__(
        self,
        embeddings: Tensor,
        mask: Tensor | None,
        positions: Tensor,
        weights: list[tuple[Tensor, ...]] | None = None,
        cache: KeysValues | None = None,
    ) -> Tensor:
        """What `LlamaModel` gives as its last hidden state.

        Args:
            embeddings: float [B, T, E].
            mask: bool [B, 1, T, S], who sees whom; S is T, or all that the cache holds then. None: everybody all.
            positions: int64 [B, T].
            weights: of `weights()`; None merges now.
            cache: of what was before; T more are written to it.

        Returns:
            float [B, T, E].
        """
        weights = self.weights() if weights is None else weights
        bias = None
        if mask is not None:
            bias = torch.zeros_like(mask, dtype=self._dtype).masked_fill_(~mask, -torch.inf)
        with torch.autocast(embeddings.device.type, enabled=False):
            turns = self._decoder.rotary_emb(embeddings.float(), positions)
            cosine, sine = (one[:, None] for one in turns)
            hidden = embeddings.float()
            for number, (layer, own) in enumerate(zip(self._decoder.layers, weights, strict=True)):
                read, joined, opened, closed = own
                state = self._normed(hidden, layer.input_layernorm)
                parts = functional.linear(state, read)
                parts = parts.view(*state.shape[:2], -1, self._width).transpose(1, 2)
                turned, values = torch.split(parts, [self._heads + self._shared, self._shared], 1)
                turned = (turned * cosine + _rotated(turned) * sine).to(self._dtype)
                queries, keys = torch.split(turned, [self._heads, self._shared], 1)
                if cache is not None:
                    keys, values = cache.extended(number, keys, values)
                keys, values = (
                    one.repeat_interleave(self._heads // self._shared, 1) for one in (keys, values)
                )
                with sdpa_kernel(_ATTENTION):
                    mixed = functional.scaled_dot_product_attention(queries, keys, values, bias)
                hidden = hidden + functional.linear(mixed.transpose(1, 2).flatten(2), joined)
                state = self._normed(hidden, layer.post_attention_layernorm)
                gate, up = functional.linear(state, opened).chunk(2, -1)
                hidden = hidden + functional.linear(functional.silu(gate) * up, closed)
            if cache is not None:
                cache.length += embeddings.shape[1]
            return functional.rms_norm(
                hidden, hidden.shape[-1:], self._decoder.norm.weight.float(), self._epsilon
            )

    def _normed(self, hidden: Tensor, norm: Any) -> Tensor:
        weight: Tensor = norm.weight.float()
        return functional.rms_norm(hidden, hidden.shape[-1:], weight, self._epsilon).to(self._dtype)

    def cache(self, rows: int, length: int) -> KeysValues:
        """An empty one for so many rows of up to so many tokens."""
        shape = (len(self._bases[0][0]), 2, rows, self._shared, length, self._width)
        return KeysValues(torch.zeros(shape, dtype=self._dtype, device=self._bases[0][0].device))


class KeysValues:
    """Keys and values of what was read and written, in place.

    Args:
        kept: float [layers, 2, rows, heads, most tokens, width].
        length: how many tokens it holds.
    """

    def __init__(self, kept: Tensor, length: int = 0) -> None:
        self.kept = kept
        self.length = length

    def extended(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Writes what is new behind the rest, and returns all of it."""
        end = self.length + keys.shape[2]
        self.kept[layer, 0, :, :, self.length : end] = keys
        self.kept[layer, 1, :, :, self.length : end] = values
        return self.kept[layer, 0, :, :, :end], self.kept[layer, 1, :, :, :end]

    def repeated(self, count: int) -> KeysValues:
        """Every row so many times."""
        return KeysValues(self.kept.repeat_interleave(count, 2), self.length)


def _rotated(values: Tensor) -> Tensor:
    first, second = values.chunk(2, -1)
    return torch.cat([-second, first], -1)
