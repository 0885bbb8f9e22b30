"""Files as they should be: regular ones. A pipe or a device in the place of a file may never end."""

from __future__ import annotations

from pathlib import Path

from openferret.checks import shorten
from openferret.errors import InputError
from openferret.eval.files import is_regular as is_regular
from openferret.eval.files import read_text


def check_regular(path: Path) -> None:
    """Refuses a pipe, a device or a folder, as InputError; a missing file is for its reader to tell."""
    try:
        strange = path.exists() and not path.is_file()
    except (OSError, ValueError) as error:
        raise InputError(
            f"{shorten(path.name)} cannot be read: {getattr(error, 'strerror', error)}"
        ) from None
    if strange:
        raise InputError(f"{path.name} is not a regular file")


def check_path(path: Path, what: str) -> None:
    """Refuses a path that no file can have: too long, with a null character, or not Unicode.

    Raises:
        InputError: `what` says which path it is.
    """
    try:
        str(path).encode()
        path.lstat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no name that a file can have"
        raise InputError(f"{what} {shorten(ascii(str(path)))} cannot be used: {reason}") from None


def read_regular_text(path: Path) -> str:
    """A regular file of UTF-8 text.

    Raises:
        InputError: it is missing, no regular file, or not UTF-8.
    """
    check_regular(path)
    return read_text(path)
