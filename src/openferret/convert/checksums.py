"""SHA-256 sums of weight files, where they are known."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from openferret.convert.progress import byte_bar
from openferret.errors import WeightsError

_SUM = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1 << 22


def known_sums(files: Sequence[Path], listed: Path | None, folder: Path | None) -> dict[Path, str]:
    """The sums that some files should have.

    A file of a Hugging Face cache is a link to a blob that is named by its sum.

    Args:
        files: all weight files.
        listed: a list of sums as `sha256sum` writes it, for files of `folder`.
        folder: that the list is of.

    Raises:
        WeightsError: a list that cannot be read, or that names none of the files.
    """
    sums = {file: file.resolve().name for file in files if _SUM.fullmatch(file.resolve().name)}
    if listed is None:
        return sums
    try:
        lines = [line.split(maxsplit=1) for line in listed.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as problem:
        raise WeightsError(f"the checksums in {listed} cannot be read: {problem}") from problem
    named = {
        Path(parts[1].lstrip("* ")).name: parts[0].lower()
        for parts in lines
        if len(parts) == 2 and _SUM.fullmatch(parts[0].lower())
    }
    found = {file: named[file.name] for file in files if file.parent == folder and file.name in named}
    if not found:
        raise WeightsError(f"{listed} names none of the weight files of {folder}")
    return sums | found


def check_files(sums: Mapping[Path, str], progress: bool = False) -> None:
    """Compares files with their sums.

    Raises:
        WeightsError: a file has another sum: it is damaged, or of another model.
    """
    total = sum(file.stat().st_size for file in sums)
    with byte_bar("checking", total, progress and bool(sums)) as advance:
        for path, expected in sums.items():
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
                    advance(len(block))
            if digest.hexdigest() != expected:
                raise WeightsError(
                    f"{path} is damaged or of another model: its SHA-256 is {digest.hexdigest()}, "
                    f"expected {expected}"
                )
