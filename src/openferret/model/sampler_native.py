"""`sampler.c` called from Python: three steps of the sampler's inference on a processor, where a C compiler is there.

Everything here has a form in plain PyTorch, used wherever `takes_table`, `takes_pairs` and `takes_rows` say no.
"""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from openferret.compiling import NoLibraryError, compiled

_WIDTH, _MOST_CHANNELS, _MOST_ROWS, _OUTPUTS = 16, 8192, 4, 4  # as in sampler.c
_FEWEST_NUMBERS = 2**16  # less is done before anything would be compiled
_FEWEST_A_THREAD = 2**18  # starting a thread takes as long as some of its work


class _Reading(ctypes.Structure):
    """As in sampler.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("table", "rows", "weights", "points")),
        *((name, ctypes.c_int64) for name in ("near", "channels")),
    )


class _Pooling(ctypes.Structure):
    """As in sampler.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("neighbor_part", "anchor_part", "neighbors")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "pooled")),
        *((name, ctypes.c_int64) for name in ("near", "channels")),
        ("epsilon", ctypes.c_float),
        ("mean", ctypes.c_int),
    )


class _Product(ctypes.Structure):
    """As in sampler.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("rows", "matrix", "products")),
        *((name, ctypes.c_int64) for name in ("count", "inputs", "outputs")),
        ("halved", ctypes.c_int),
    )


def takes_table(table: Tensor, rows: Tensor, weights: Tensor) -> bool:
    """Whether `read_table` can do it: fp32 on a processor, enough of it, no gradient wanted."""
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and _is_plain(table, torch.float32)
        and _is_plain(weights, torch.float32)
        and _is_plain(rows, torch.int64)
        and rows.numel() * table.shape[1] >= _FEWEST_NUMBERS
        and table.shape[1] % _WIDTH == 0
        and _library() is not None
    )


def read_table(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows, of what `takes_table` takes: [T, C], int64 [P, K], [P, K] -> [P, C].

    Raises:
        IndexError: rows that the table has not.
    """
    if rows.amin() < 0 or rows.amax() >= len(table):
        raise IndexError(f"rows must be in 0..{len(table) - 1}")
    points = torch.empty(len(rows), table.shape[1])
    held = [one.contiguous() for one in (table, rows, weights, points)]
    job = _Reading(*(one.data_ptr() for one in held), near=rows.shape[1], channels=table.shape[1])
    _opened().openferret_read(
        ctypes.byref(job), len(rows), _threads(rows.numel() * table.shape[1]), _torch_threads()
    )
    return points


def takes_pairs(neighbor_part: Tensor, anchor_part: Tensor, neighbors: Tensor, *affine: Tensor) -> bool:
    """Whether `pool_pairs` can do it: fp32 on a processor, and enough of it. Arguments as of `pooling.pool_pairs`."""
    numbers = (neighbor_part, anchor_part, *affine)
    channels = neighbor_part.shape[1]
    return (
        not torch.compiler.is_compiling()
        and all(_is_plain(one, torch.float32) for one in numbers)
        and _is_plain(neighbors, torch.int64)
        and neighbors.numel() * channels >= _FEWEST_NUMBERS
        and channels % _WIDTH == 0
        and channels <= _MOST_CHANNELS
        and _library() is not None
    )


def pool_pairs(
    neighbor_part: Tensor,
    anchor_part: Tensor,
    neighbors: Tensor,
    weight: Tensor,
    bias: Tensor,
    epsilon: float,
    pool: str,
) -> Tensor:
    """`pooling.pool_pairs` without gradients, of what `takes_pairs` takes.

    Raises:
        IndexError: neighbours that are no points.
    """
    if neighbors.amin() < 0 or neighbors.amax() >= len(neighbor_part):
        raise IndexError(f"neighbours must be in 0..{len(neighbor_part) - 1}")
    pooled = torch.empty_like(anchor_part, memory_format=torch.contiguous_format)
    held = [one.contiguous() for one in (neighbor_part, anchor_part, neighbors, weight, bias, pooled)]
    job = _Pooling(
        *(one.data_ptr() for one in held),
        near=neighbors.shape[1],
        channels=neighbor_part.shape[1],
        epsilon=epsilon,
        mean=pool == "mean",
    )
    threads = _threads(neighbors.numel() * neighbor_part.shape[1])
    _opened().openferret_pool(ctypes.byref(job), len(anchor_part), threads, _torch_threads())
    return pooled


def takes_rows(rows: Tensor, matrix: Tensor) -> bool:
    """Whether `multiply` can do it: a few rows [R, I] and a matrix [O, I], both fp32 or bf16, no gradient wanted."""
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and matrix.dtype in (torch.float32, torch.bfloat16)
        and _is_plain(matrix, matrix.dtype)
        and _is_plain(rows, matrix.dtype)
        and matrix.is_contiguous()
        and rows.dim() == 2
        and 1 <= len(rows) <= _MOST_ROWS
        and matrix.numel() >= _FEWEST_NUMBERS
        and matrix.shape[0] % _OUTPUTS == 0
        and matrix.shape[1] % _WIDTH == 0
        and _library() is not None
    )


def multiply(rows: Tensor, matrix: Tensor) -> Tensor:
    """`rows @ matrix.T`, of what `takes_rows` takes; summed and returned in fp32.

    PyTorch rearranges a matrix of bf16 before it multiplies, which takes longer than to read it once.
    """
    wide = rows.float().contiguous()
    products = torch.empty(len(rows), len(matrix))
    job = _Product(
        *(one.data_ptr() for one in (wide, matrix, products)),
        count=len(rows),
        inputs=matrix.shape[1],
        outputs=matrix.shape[0],
        halved=matrix.dtype == torch.bfloat16,
    )
    _opened().openferret_multiply(ctypes.byref(job), _threads(matrix.numel()), _torch_threads())
    return products


def _is_plain(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Numbers that lie in this process' memory as they say, not in another device's or a quantised form."""
    return (
        tensor.dtype == dtype
        and tensor.device.type == "cpu"
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def _threads(numbers: int) -> int:
    return max(1, min(torch.get_num_threads(), numbers // _FEWEST_A_THREAD))


@cache
def _torch_threads() -> ctypes.c_void_p | None:
    """How work is given to the threads of PyTorch's own OpenMP; None where it brings none along."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        try:
            return ctypes.cast(ctypes.CDLL(str(path)).GOMP_parallel, ctypes.c_void_p)
        except (OSError, AttributeError):
            continue
    return None


def _opened() -> ctypes.CDLL:
    library = _library()
    assert library is not None  # else `takes_...` has said no
    return library


@cache
def _library() -> ctypes.CDLL | None:
    try:
        library = compiled("openferret.model", "sampler.c")
    except NoLibraryError as problem:
        logging.getLogger(__name__).info("the sampler runs in PyTorch alone: %s", problem)
        return None
    library.openferret_pool.argtypes = [
        ctypes.POINTER(_Pooling),
        ctypes.c_int64,
        ctypes.c_int,
        ctypes.c_void_p,
    ]
    library.openferret_multiply.argtypes = [ctypes.POINTER(_Product), ctypes.c_int, ctypes.c_void_p]
    library.openferret_read.argtypes = [
        ctypes.POINTER(_Reading),
        ctypes.c_int64,
        ctypes.c_int,
        ctypes.c_void_p,
    ]
    for function in (library.openferret_read, library.openferret_pool, library.openferret_multiply):
        function.restype = None
    return library
