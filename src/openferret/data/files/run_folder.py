"""A folder that runs add to, one at a time, always with the same settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from openferret.data.files.atomic import read_mark, write_json
from openferret.errors import InputError

_MARK = "run.json"


@contextmanager
def run_folder(folder: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Begins a run in a folder, or goes on with one of the same settings; locked against another.

    Args:
        folder: made if it is not there; gets `run.json`.
        settings: what the run's results depend on.

    Raises:
        InputError: a run with other settings is there, another process is at work, or it cannot be written.
    """
    mark = folder / _MARK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "run.lock", timeout=0)
        with lock:
            found = read_mark(mark)
            if found is not None and found != dict(settings):
                raise InputError(
                    f"{folder} holds another run ({_told(found)}); give another folder, or the same settings"
                )
            write_json(mark, settings)
            yield
    except Timeout:
        raise InputError(f"another run is at work in {folder}") from None
    except OSError as error:
        raise InputError(f"{folder} cannot be used: {error.strerror or error}") from None


def check_run(folder: Path) -> None:
    """Refuses a folder in which no run was begun, as InputError."""
    if read_mark(folder / _MARK) is None:
        raise InputError(f"{folder} holds no run (there is no {_MARK})")


def _told(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
