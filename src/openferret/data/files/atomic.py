"""Files that are whole or not there, and marks that say a piece of work is done.

A file is written under another name, flushed to the disk and then renamed. A kill leaves at most a `.partial`
file, which the next run writes over. The mark of a job is written after its files, so that a job with a mark
is never done again and one without is done from its beginning.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from openferret.errors import InputError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path to write to; when the block ends well, the file stands at `path`, else nothing does.

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    except OSError as error:
        raise explained(error, path) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def explained(error: OSError, path: Path) -> InputError:
    """What a person is told when a file could not be written."""
    if error.errno in _FULL:
        return InputError(
            f"the disk is full: {path} could not be written; make room and run the same command again, "
            "it goes on where it stopped"
        )
    return InputError(f"{path} cannot be written: {error.strerror or error}")


def write_text(path: Path, text: str) -> None:
    """A text file, UTF-8, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON file, whole or not at all, with sorted keys.

    Raises:
        InputError: it cannot be written.
    """
    write_text(path, json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_mark(path: Path) -> dict[str, Any] | None:
    """What a finished job left; None if it has not finished, or its mark is damaged and it must run again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
