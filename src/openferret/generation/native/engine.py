"""The fast engine: embeddings of new tokens -> logits, through the compiled library."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from openferret.generation.native.library import Cache, Layer, Matrix, Model, Row, library
from openferret.generation.native.matrices import BLOCK, GROUP, Array
from openferret.generation.native.packing import PARTS, PackedWeights

_ROOM = 32  # tokens that a cache grows by at least, a multiple of 16


@dataclass
class NativeCache:
    """Keys [layers, heads, width, capacity] and values [layers, heads, capacity, width] of `length` tokens."""

    keys: Array
    values: Array
    length: int = 0

    def described(self) -> Cache:
        """For the library."""
        capacity = self.values.shape[2]
        return Cache(self.keys.ctypes.data, self.values.ctypes.data, capacity, self.length)


class NativeEngine:
    """Runs packed weights on this machine's processor.

    Args:
        weights: of the language model; kept as they are.
        threads: that share the work; None for as many as PyTorch takes.

    Raises:
        NoLibraryError: the library cannot be had here.
    """

    name = "fast"

    def __init__(self, weights: PackedWeights, threads: int | None = None) -> None:
        self.shape = weights.shape
        self._library = library()
        self._weights = weights  # keeps the memory that the structures point into,
        self._kept: list[Matrix] = []  # and these too
        self._layers = (Layer * self.shape.layers)(*map(self._layer, range(self.shape.layers)))
        self._model = ctypes.pointer(self._described())
        self._crew = ctypes.c_void_p(self._library.openferret_gather(threads or torch.get_num_threads()))
        self._lock = threading.Lock()  # a crew does one job at a time

    def __del__(self) -> None:
        if crew := getattr(self, "_crew", None):
            self._library.openferret_dismiss(crew)

    @property
    def precision(self) -> str:
        """Of the weights: "int4" where all layers are four-bit as they were published, else "int8"."""
        first = (f"layers.{layer}.{part}.data" for layer in range(self.shape.layers) for part in PARTS)
        return "int4" if all(self._weights.arrays[name].shape[2] == 4 for name in first) else "int8"

    def start(self, embeddings: Tensor) -> NativeCache:
        """Runs a text's beginning, float [L, H]; the result is shared by all that goes on from it."""
        rows = NativeRows(self, self.new_cache(0), 1)
        rows.run([embeddings], logits=False)
        return rows.caches[0]

    def go_on(self, prefix: NativeCache, rows: int) -> NativeRows:
        """Rows that go on from a beginning, which stays as it is."""
        return NativeRows(self, prefix, rows)

    def new_cache(self, capacity: int) -> NativeCache:
        """An empty cache with room for `capacity` tokens, a multiple of 16."""
        shape = self.shape
        keys = np.zeros((shape.layers, shape.key_heads, shape.head_width, capacity), np.float32)
        values = np.zeros((shape.layers, shape.key_heads, capacity, shape.head_width), np.float32)
        return NativeCache(keys, values)

    def step(self, rows: ctypes.Array[Row], embeddings: Tensor, places: Array, chosen: Array) -> Tensor:
        """One step for tokens of all rows; see `openferret_step` in llama.c.

        Args:
            rows: of the library.
            embeddings: float32 [n, H], contiguous.
            places: int32 [3, n], contiguous: row, place in the row's own cache, position.
            chosen: int32 [m], the tokens whose logits are wanted.

        Returns:
            float32 [m, V].

        Raises:
            MemoryError: there is not enough.
        """
        count = embeddings.shape[0]
        logits = torch.empty(len(chosen), self.shape.vocabulary)
        place = places.ctypes.data
        with self._lock:
            failed = self._library.openferret_step(
                *(self._crew, self._model, rows, count, embeddings.data_ptr()),
                *(place, place + 4 * count, place + 8 * count),
                *(len(chosen), chosen.ctypes.data, logits.data_ptr()),
            )
        if failed:
            raise MemoryError("not enough memory for a step of the language model")
        return logits

    def _address(self, name: str) -> int:
        return int(self._weights.arrays[name].ctypes.data)

    def _matrix(self, name: str) -> Matrix:
        blocks, groups, quads, *_ = self._weights.arrays[f"{name}.data"].shape
        matrix = Matrix(self._address(f"{name}.data"), self._address(f"{name}.scales"))
        matrix.inputs, matrix.blocks, matrix.bits = groups * GROUP, blocks, quads
        if f"{name}.up" in self._weights.arrays:
            down = self._matrix(f"{name}.down")
            self._kept.append(down)
            matrix.down = ctypes.addressof(down)
            matrix.up, matrix.branch = self._address(f"{name}.up"), self._address(f"{name}.branch")
            matrix.rank = self._weights.arrays[f"{name}.up"].shape[1]
        return matrix

    def _layer(self, index: int) -> Layer:
        name = f"layers.{index}"
        norms = (self._address(f"{name}.{one}") for one in ("attention_norm", "feed_norm"))
        return Layer(*norms, *(self._matrix(f"{name}.{one}") for one in PARTS))

    def _described(self) -> Model:
        shape = self.shape
        sizes = (
            shape.hidden,
            shape.intermediate,
            shape.heads,
            shape.key_heads,
            shape.head_width,
            shape.layers,
        )
        return Model(
            *sizes,
            shape.vocabulary,
            shape.epsilon,
            self._address("frequencies"),
            self._address("final_norm"),
            self._matrix("head"),
            self._layers,
        )


class NativeRows:
    """Sequences that grow together behind one prefix, each in a cache of its own; the prefix is not copied.

    Args:
        engine: that runs them.
        prefix: shared by all.
        rows: how many.
    """

    def __init__(self, engine: NativeEngine, prefix: NativeCache, rows: int) -> None:
        self.engine = engine
        self.prefix = prefix
        self.caches = [engine.new_cache(0) for _ in range(rows)]
        self._described: ctypes.Array[Row] | None = None  # the caches, for the library

    def append(self, embeddings: Sequence[Tensor]) -> Tensor:
        """Adds tokens, float [n, H] for each row, n >= 1; returns the logits after each row's last, [rows, V]."""
        return self.run(embeddings)

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all other rows."""
        self.caches = [self.caches[row] for row in rows]
        self._described = None

    def run(self, embeddings: Sequence[Tensor], logits: bool = True) -> Tensor:
        """As `append`, and without logits where none are wanted.

        What Python does here is not in the processor's caches any more, for the weights have gone through them: it
        took a tenth of a token's time. So it does little, and describes the caches only when they have changed.
        """
        row: list[int] = []
        place: list[int] = []
        last: list[int] = []
        for index, (cache, one) in enumerate(zip(self.caches, embeddings, strict=True)):
            held, more = cache.length, one.shape[0]
            row += [index] * more
            place += range(held, held + more)
            last.append(len(row) - 1)
            self._make_room(index, held + more)
        if self._described is None:
            prefix = self.prefix.described()
            self._described = (Row * len(last))(*(Row(prefix, cache.described()) for cache in self.caches))
        vectors = embeddings[0] if len(embeddings) == 1 else torch.cat(list(embeddings))
        vectors = vectors.detach().to("cpu", torch.float32).contiguous()
        before = self.prefix.length
        places = np.array([row, place, [before + one for one in place]], np.int32)
        chosen = np.array(last if logits else [], np.int32)
        result = self.engine.step(self._described, vectors, places, chosen)
        for cache, one in zip(self.caches, embeddings, strict=True):
            cache.length += one.shape[0]
        return result

    def _make_room(self, index: int, needed: int) -> None:
        cache = self.caches[index]
        capacity = cache.values.shape[2]
        if needed <= capacity:
            return
        grown = self.engine.new_cache(-(-max(needed + _ROOM, 2 * capacity) // BLOCK) * BLOCK)
        grown.keys[..., :capacity] = cache.keys
        grown.values[:, :, :capacity] = cache.values
        grown.length = cache.length
        self.caches[index] = grown
        self._described = None
