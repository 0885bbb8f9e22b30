"""`sampler.c` called from Python: steps of the sampler's inference on a processor, where a C compiler is there.

Everything here has a form in plain PyTorch, used wherever `takes_table`, `takes_pairs` and `takes_rows` say no.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from openferret.compiling import NoLibraryError, compiled

SOURCES = ("sampler.c", "sampler_block.h", "sampler_vectors.h")
_WIDTH, MOST_CHANNELS, _MOST_ROWS, _OUTPUTS = 16, 8192, 4, 4  # as in sampler.c
FEWEST_NUMBERS = 2**16  # less is done before anything would be compiled
_FEWEST_A_THREAD = 2**18  # starting a thread takes as long as some of its work


class _Reading(ctypes.Structure):
    """As in sampler.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("table", "rows", "weights", "chosen", "places")),
        *((name, ctypes.c_void_p) for name in ("of_place", "constant", "points")),
        *((name, ctypes.c_int64) for name in ("near", "channels")),
        ("halved", ctypes.c_int),
    )


class _Pooling(ctypes.Structure):
    """As in sampler.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("neighbor_part", "anchor_part", "neighbors")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "pooled")),
        *((name, ctypes.c_int64) for name in ("near", "channels", "points", "kept")),
        ("epsilon", ctypes.c_float),
        ("mean", ctypes.c_int),
        ("halved", ctypes.c_int),
    )


class _Product(ctypes.Structure):
    """As in sampler.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("rows", "matrix", "bias", "products")),
        *((name, ctypes.c_int64) for name in ("count", "inputs", "outputs")),
        ("halved", ctypes.c_int),
    )


class _Step(ctypes.Structure):
    """As in sampler.c."""

    _fields_ = (("block", ctypes.c_void_p), ("product", ctypes.c_void_p))


def takes_table(table: Tensor, rows: Tensor, weights: Tensor) -> bool:
    """Whether `read_table` can do it: fp32 on a processor, enough of it, no gradient wanted."""
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and are_plain((table, weights), torch.float32)
        and are_plain((rows,), torch.int64)
        and rows.numel() * table.shape[1] >= FEWEST_NUMBERS
        and table.shape[1] % _WIDTH == 0
        and kernels() is not None
    )


def read_table(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows, of what `takes_table` takes: [T, C], int64 [P, K], [P, K] -> [P, C].

    Raises:
        IndexError: rows that the table has not.
    """
    if rows.amin() < 0 or rows.amax() >= len(table):
        raise IndexError(f"rows must be in 0..{len(table) - 1}")
    points = torch.empty(len(rows), table.shape[1])
    held = [one.contiguous() for one in (table, rows, weights)]
    job = _Reading(
        *(one.data_ptr() for one in held),
        points=points.data_ptr(),
        near=rows.shape[1],
        channels=table.shape[1],
    )
    opened().openferret_read(
        ctypes.byref(job), len(rows), threads_for(rows.numel() * table.shape[1]), torch_threads()
    )
    return points


def takes_pairs(neighbor_part: Tensor, anchor_part: Tensor, neighbors: Tensor, *affine: Tensor) -> bool:
    """Whether `pool_pairs` can do it: fp32 on a processor, and enough of it. Arguments as of `pooling.pool_pairs`."""
    numbers = (neighbor_part, anchor_part, *affine)
    channels = neighbor_part.shape[1]
    return (
        not torch.compiler.is_compiling()
        and are_plain(numbers, torch.float32)
        and are_plain((neighbors,), torch.int64)
        and neighbors.numel() * channels >= FEWEST_NUMBERS
        and channels % _WIDTH == 0
        and channels <= MOST_CHANNELS
        and kernels() is not None
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
        points=len(neighbor_part),
        kept=len(anchor_part),
        epsilon=epsilon,
        mean=pool == "mean",
    )
    threads = threads_for(neighbors.numel() * neighbor_part.shape[1])
    opened().openferret_pool(ctypes.byref(job), len(anchor_part), threads, torch_threads())
    return pooled


def takes_rows(rows: Tensor, matrix: Tensor, bias: Tensor) -> bool:
    """Whether `product` can do it: a few rows [R, I], a matrix [O, I], all fp32 or all bf16, no gradient wanted."""
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and matrix.dtype in (torch.float32, torch.bfloat16)
        and are_plain((rows, matrix, bias), matrix.dtype)
        and matrix.is_contiguous()
        and rows.dim() == 2
        and 1 <= rows.shape[0] <= _MOST_ROWS
        and matrix.numel() >= FEWEST_NUMBERS
        and matrix.shape[0] % _OUTPUTS == 0
        and matrix.shape[1] % (2 * _WIDTH) == 0
        and kernels() is not None
    )


class Step(NamedTuple):
    """Work that is ready to be done by `run`.

    Attributes:
        job: as C knows it.
        held: what it reads, which must not go before it is done.
        made: what it fills, in the order in which a module returns it.
        numbers: how much it is, to decide on threads.
    """

    job: ctypes.Structure
    held: Sequence[Tensor]
    made: tuple[Tensor, ...]
    numbers: int


def product(rows: Tensor, matrix: Tensor, bias: Tensor) -> Step:
    """`rows @ matrix.T + bias`, of what `takes_rows` takes; summed in fp32, made in the rows' type.

    PyTorch rearranges a matrix of bf16 before it multiplies, which takes longer than to read it once.
    """
    products = torch.empty(rows.shape[0], matrix.shape[0], dtype=rows.dtype)
    held = contiguous(rows), matrix, contiguous(bias)
    job = _Product(
        *[one.data_ptr() for one in (*held, products)],
        count=rows.shape[0],
        inputs=matrix.shape[1],
        outputs=matrix.shape[0],
        halved=matrix.dtype == torch.bfloat16,
    )
    return Step(job, held, (products,), matrix.numel())


def run(steps: Sequence[Step]) -> tuple[Tensor, ...]:
    """Does steps, each of which may read what one before it fills; returns what the last has filled.

    They are done in one call: what Python does between two has left the processor's caches each time, and takes as
    long as a tenth of a region.

    Raises:
        IndexError: an index of rows, anchors or neighbours that are not there.
        MemoryError: there is no room for what is made on the way.
    """
    jobs = (_Step * len(steps))()
    for at, step in enumerate(steps):
        kind = "product" if isinstance(step.job, _Product) else "block"
        setattr(jobs[at], kind, ctypes.addressof(step.job))
    threads = threads_for(max([step.numbers for step in steps]))
    failed = opened().openferret_run(jobs, len(steps), threads, torch_threads())
    if failed == 1:
        raise MemoryError("the sampler found no room for the points of its regions")
    if failed:
        raise IndexError("rows, anchors and neighbours must be those of points that are there")
    return steps[-1].made


def join_pages(matrix: Tensor) -> None:
    """Has the system put a large matrix in this process' memory on huge pages, from which it is read faster."""
    library = kernels()
    if library is not None:
        library.openferret_join_pages(matrix.data_ptr(), matrix.nbytes)


def are_plain(tensors: Iterable[Tensor], dtype: torch.dtype) -> bool:
    """Numbers that lie in this process' memory as they say, not in another device's or a quantised form."""
    if torch._C._functorch.peek_interpreter_stack() is not None:  # they may be wrapped
        return False
    for one in tensors:  # asked for every region: a loop takes half the time of all()
        if one.dtype != dtype or not one.is_cpu or type(one) not in (Tensor, torch.nn.Parameter):
            return False
    return True


def contiguous(tensor: Tensor) -> Tensor:
    """`tensor.contiguous()`, which takes a while even to do nothing."""
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def threads_for(numbers: int) -> int:
    """On how many threads so many numbers are worked on."""
    return max(1, min(torch.get_num_threads(), numbers // _FEWEST_A_THREAD))


@cache
def torch_threads() -> ctypes.c_void_p | None:
    """How work is given to the threads of PyTorch's own OpenMP; None where it brings none along."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        try:
            return ctypes.cast(ctypes.CDLL(str(path)).GOMP_parallel, ctypes.c_void_p)
        except (OSError, AttributeError):
            continue
    return None


def opened() -> ctypes.CDLL:
    """The library, once `takes_...` has said yes."""
    library = kernels()
    assert library is not None
    return library


@cache
def kernels() -> ctypes.CDLL | None:
    """The library; None where there is none."""
    try:
        library = compiled("openferret.model", *SOURCES)
    except NoLibraryError as problem:
        logging.getLogger(__name__).info("the sampler runs in PyTorch alone: %s", problem)
        return None
    job, threads, on_threads = ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
    takes: dict[str, tuple[type, ...]] = {
        "read": (job, ctypes.c_int64, threads, on_threads),
        "pool": (job, ctypes.c_int64, threads, on_threads),
        "run": (job, ctypes.c_int64, threads, on_threads),
        "block_is_fast": (ctypes.c_int,),
        "cells": (job,),
        "join_pages": (ctypes.c_void_p, ctypes.c_int64),
    }
    results = {"run": ctypes.c_int, "block_is_fast": ctypes.c_int, "cells": ctypes.c_int64}
    for name, arguments in takes.items():
        function = getattr(library, f"openferret_{name}")
        function.argtypes = arguments
        function.restype = results.get(name)
    return library
