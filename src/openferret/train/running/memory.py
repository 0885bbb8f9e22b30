"""Memory on CPUs: asked for once and kept, and how much of it was used."""

from __future__ import annotations

import ctypes
import resource
import sys
from contextlib import suppress

import torch

_MMAP_MAX, _TOP_PAD, _TRIM_THRESHOLD = -4, -2, -1  # of glibc's mallopt
_PAD = 64 << 20


def keep_memory() -> None:
    """Tells glibc not to hand memory back to the kernel after every step; does nothing elsewhere.

    A step asks for the same hundreds of megabytes as the one before. Handed back and asked for anew, each page is
    zeroed again: the sampler's pass alone takes 1.2 s with it and 0.1 s without (docs/training.md).
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, _PAD)):
            mallopt(name, value)


def memory_peak(device: torch.device) -> int:
    """Most bytes that this process has held: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
