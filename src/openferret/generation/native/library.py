"""The C of this folder as Python calls it."""

from __future__ import annotations

import ctypes
from functools import cache

from openferret.compiling import NoLibraryError as NoLibraryError  # for whoever opens the library
from openferret.compiling import compiled

SOURCES = (
    "llama.c",
    "attention.h",
    "crew.h",
    "kernels.h",
    "products.h",
    "products_avx2.h",
    "products_neon.h",
    "products_plain.h",
    "products_vnni.h",
)

PLAIN, AVX2, VNNI, NEON = range(4)
"""What the library's products are written for, as its `openferret_instructions` tells."""
MEASURED = frozenset({AVX2, VNNI})
"""Those with which the engine was measured to be faster than transformers."""


class Matrix(ctypes.Structure):
    """As in kernels.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("down", ctypes.c_void_p),
        ("up", ctypes.c_void_p),
        ("branch", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("inputs", "blocks", "bits", "rank")),
    )


class Layer(ctypes.Structure):
    """As in llama.c."""

    _fields_ = (
        ("attention_norm", ctypes.c_void_p),
        ("feed_norm", ctypes.c_void_p),
        ("query_key_value", Matrix),
        ("output", Matrix),
        ("gate_up", Matrix),
        ("down", Matrix),
    )


class Model(ctypes.Structure):
    """As in llama.c."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("hidden", "intermediate", "heads", "key_heads")),
        *((name, ctypes.c_int32) for name in ("head_width", "layers", "vocabulary")),
        ("epsilon", ctypes.c_float),
        ("frequencies", ctypes.c_void_p),
        ("final_norm", ctypes.c_void_p),
        ("head", Matrix),
        ("layer", ctypes.POINTER(Layer)),
    )


class Cache(ctypes.Structure):
    """As in attention.h."""

    _fields_ = (
        ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("capacity", ctypes.c_int32),
        ("length", ctypes.c_int32),
    )


class Row(ctypes.Structure):
    """As in attention.h."""

    _fields_ = (("prefix", Cache), ("own", Cache))


@cache
def library() -> ctypes.CDLL:
    """The compiled library; the first call on a machine compiles it, which takes some three seconds.

    Raises:
        NoLibraryError: no C compiler, one that fails, or no place to keep the result.
    """
    return _typed(compiled("openferret.generation.native", *SOURCES))


def _typed(opened: ctypes.CDLL) -> ctypes.CDLL:
    pointer = ctypes.c_void_p
    opened.openferret_gather.restype = pointer
    opened.openferret_gather.argtypes = [ctypes.c_int]
    opened.openferret_dismiss.argtypes = [pointer]
    opened.openferret_dismiss.restype = None
    opened.openferret_sizes.restype = ctypes.c_size_t
    opened.openferret_step.argtypes = [
        *(
            pointer,
            ctypes.POINTER(Model),
            ctypes.POINTER(Row),
            ctypes.c_int,
            pointer,
            pointer,
            pointer,
            pointer,
        ),
        *(ctypes.c_int, pointer, pointer),
    ]
    for which, structure in enumerate((Matrix, Layer, Model, Cache, Row)):
        if opened.openferret_sizes(which) != ctypes.sizeof(structure):
            raise NoLibraryError(f"the compiled engine lays out {structure.__name__} in another way")
    return opened
