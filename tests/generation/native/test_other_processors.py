"""The engine's C as other processors run it: natively where this one can, else imitated by qemu where it is there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from openferret.compiling import NoLibraryError
from openferret.generation.native import library as libraries
from openferret.generation.native.library import AVX2, NEON, PLAIN, VNNI, library

HERE, ENGINE = Path(__file__).parent, Path(libraries.__file__).parent
ARM = ("aarch64-linux-gnu-gcc", "qemu-aarch64-static")


def run(folder: Path, flags: tuple[str, ...], arm: bool = False) -> list[list[float]]:
    """What the small model gives with one thread and with three."""
    compiler = ARM[0] if arm else shutil.which("cc") or shutil.which("gcc")
    made = folder / "small-model"
    common = ("-std=gnu11", "-Wno-psabi", "-fno-math-errno", "-fno-trapping-math", f"-I{ENGINE}")
    command = [compiler, *flags, *common, *(("-static",) if arm else ()), str(HERE / "small_model.c")]
    subprocess.run([*command, "-o", str(made), "-lm", "-lpthread"], check=True)
    imitated = (ARM[1], "-cpu", "max") if arm else ()
    given = []
    for threads in ("1", "3"):
        called = [*imitated, str(made), threads]
        said = subprocess.run(called, check=True, capture_output=True, text=True)
        given.append([float(line) for line in said.stdout.split()])
    return given


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    if not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("there is no C compiler")
    (instructions, *numbers), again = run(tmp_path_factory.mktemp("plain"), ("-O1",))
    assert instructions == PLAIN
    assert again[1:] == numbers
    assert len(numbers) > 1000
    assert max(map(abs, numbers)) > 1, "numbers that are all next to nothing would show nothing"
    return numbers


@pytest.mark.parametrize(
    ("instructions", "flags", "arm"),
    [
        (AVX2, ("-O3", "-mavx2", "-mfma", "-mf16c"), False),
        (VNNI, ("-O3", "-mavx512f", "-mavx512bw", "-mavx512vnni", "-mf16c"), False),
        (PLAIN, ("-O2", "-march=armv8-a"), True),
        (NEON, ("-O3", "-march=armv8.2-a+dotprod"), True),
    ],
    ids=["avx2", "vnni", "arm-plain", "arm-neon"],
)
def test_every_processor_gives_the_same_numbers(plain, tmp_path, instructions, flags, arm):
    if arm and not all(map(shutil.which, ARM)):
        pytest.skip(f"{' and '.join(ARM)} are not here")
    try:
        own = library().openferret_instructions()
    except NoLibraryError as reason:
        pytest.skip(str(reason))
    if not arm and (own == NEON or own < instructions):
        pytest.skip("this processor has no such instructions")
    alone, together = run(tmp_path, flags, arm)
    assert alone[0] == instructions
    assert alone[1:] == pytest.approx(plain, abs=2e-3)
    assert together == alone
