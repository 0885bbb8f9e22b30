"""The C of this folder -> a library for this very processor, compiled once and kept in the cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sysconfig
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path

SOURCES = ("llama.c", "crew.h", "kernels.h")
_FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
_LONGEST_COMPILATION = 120  # seconds; it takes some three
_HEADS = ("model name", "flags", "Features", "CPU part")  # of /proc/cpuinfo, what the code is made for


class Matrix(ctypes.Structure):
    """As in kernels.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("inputs", ctypes.c_int32),
        ("blocks", ctypes.c_int32),
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
    """As in llama.c."""

    _fields_ = (
        ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("capacity", ctypes.c_int32),
        ("length", ctypes.c_int32),
    )


class Row(ctypes.Structure):
    """As in llama.c."""

    _fields_ = (("prefix", Cache), ("own", Cache))


class NoLibraryError(Exception):
    """The library cannot be had here; the message says why."""


@cache
def library() -> ctypes.CDLL:
    """The compiled library; the first call on a machine compiles it, which takes some three seconds.

    Raises:
        NoLibraryError: no C compiler, one that fails, or no place to keep the result.
    """
    sources = {name: _source(name) for name in SOURCES}
    compiler = _compiler()
    key = hashlib.sha256("\0".join([*sources.values(), *_FLAGS, compiler or "", _processor()]).encode())
    path = _folder() / f"llama-{key.hexdigest()[:16]}.so"
    if not path.is_file():
        if compiler is None:
            raise NoLibraryError("there is no C compiler (cc, gcc or clang) on this machine")
        _compile(compiler, sources, path)
    return _opened(path)


def _source(name: str) -> str:
    return (resources.files("openferret.generation.native") / name).read_text(encoding="utf-8")


def _folder() -> Path:
    from openferret.kit.base_weights import cache_folder

    return cache_folder() / "engine"


def _compiler() -> str | None:
    names = (os.environ.get("CC", "").split(" ")[0], "cc", "gcc", "clang")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def _processor() -> str:
    """What the code is compiled for: a cache on a shared disk may serve machines of several kinds."""
    try:
        lines = (
            Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
        )
        return "\n".join(line for line in lines if line.startswith(_HEADS))
    except OSError:
        return f"{platform.machine()} {platform.processor()} {sysconfig.get_platform()}"


def _compile(compiler: str, sources: dict[str, str], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as name:
            folder = Path(name)
            for file, text in sources.items():
                (folder / file).write_text(text, encoding="utf-8")
            made = folder / "made.so"
            # clang on ARM knows no -march=native.
            native = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
            command = [
                compiler,
                *_FLAGS,
                native,
                "-o",
                str(made),
                str(folder / SOURCES[0]),
                "-lm",
                "-lpthread",
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_COMPILATION)
            if done.returncode:
                said = done.stderr.strip().splitlines()
                raise NoLibraryError(f"{Path(compiler).name} failed: {said[0] if said else done.returncode}")
            made.replace(path)  # in one step: another process may be doing the same
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise NoLibraryError(f"the fast engine could not be compiled: {problem}") from problem


def _opened(path: Path) -> ctypes.CDLL:
    try:
        opened = ctypes.CDLL(str(path))
    except OSError as problem:
        raise NoLibraryError(f"the compiled engine cannot be opened: {problem}") from problem
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
