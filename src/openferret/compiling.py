"""C of this package -> a library for this very processor, compiled once and kept in the cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sysconfig
import tempfile
from importlib import resources
from pathlib import Path

_FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
_LONGEST_COMPILATION = 120  # seconds; it takes some three
_HEADS = ("model name", "flags", "Features", "CPU part")  # of /proc/cpuinfo, what the code is made for


class NoLibraryError(Exception):
    """The library cannot be had here; the message says why."""


def compiled(package: str, *files: str) -> ctypes.CDLL:
    """The library made of a package's C files; the first call on a machine compiles it, for some seconds.

    Args:
        package: where the files lie, such as "openferret.model".
        files: the one to compile, and then those it includes.

    Raises:
        NoLibraryError: no C compiler, one that fails, or no place to keep the result.

    Example:
        >>> compiled("openferret.model", "pooling.c")  # doctest: +SKIP
        <CDLL '...'>
    """
    sources = {name: (resources.files(package) / name).read_text(encoding="utf-8") for name in files}
    compiler = _compiler()
    key = hashlib.sha256("\0".join([*sources.values(), *_FLAGS, compiler or "", _processor()]).encode())
    path = _folder() / f"{Path(files[0]).stem}-{key.hexdigest()[:16]}.so"
    if not path.is_file():
        if compiler is None:
            raise NoLibraryError("there is no C compiler (cc, gcc or clang) on this machine")
        _compile(compiler, sources, files[0], path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as problem:
        raise NoLibraryError(f"{path} was compiled but cannot be opened: {problem}") from problem


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


def _compile(compiler: str, sources: dict[str, str], main: str, path: Path) -> None:
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
                str(folder / main),
                "-lm",
                "-lpthread",
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_COMPILATION)
            if done.returncode:
                said = done.stderr.strip().splitlines()
                first = next((line for line in said if "error" in line), done.returncode)
                raise NoLibraryError(f"{Path(compiler).name} failed: {first}")
            with made.open("rb") as whole:  # a torn library, after a power cut, would crash whoever opens it
                os.fsync(whole.fileno())
            made.replace(path)  # in one step: another process may be doing the same
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise NoLibraryError(f"{path.name} could not be compiled: {problem}") from problem
