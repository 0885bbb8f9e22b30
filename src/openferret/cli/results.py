"""A results file: one line of JSON an answer, resumable after any interruption.

A line is `{"file": ..., "request": {...}, ...}` with either the fields of the answer or `"error"`. The
request holds everything that the answer depends on, so that one file may hold answers to many questions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from openferret.errors import InputError

_LINE_START = b'{"file": '


@dataclass(frozen=True)
class Results:
    """Where answers are written, and what is written there already."""

    stream: TextIO
    answered: set[tuple[str, str]] = field(default_factory=set)

    def has(self, file: str, request: Mapping[str, object]) -> bool:
        """Whether this request about this picture is answered already; an error is no answer."""
        return (file, _fingerprint(request)) in self.answered

    def write(self, file: str, request: Mapping[str, object], outcome: Mapping[str, object]) -> None:
        """Write a line, at once: nothing written is lost if the next picture is interrupted.

        Raises:
            InputError: The file cannot be written any more, as on a full disk.
        """
        try:
            print(json.dumps({"file": file, "request": request, **outcome}), file=self.stream, flush=True)
        except BrokenPipeError:
            raise  # whoever read stdout has had enough
        except OSError as error:
            raise InputError(f"the results cannot be written: {error.strerror or error}") from error


@contextmanager
def open_results(path: Path | None) -> Iterator[Results]:
    """Open a results file to append to, its torn last line repaired; None is stdout.

    Raises:
        InputError: A file that is something else, or that cannot be written. It is left as it was.
    """
    if path is None:
        yield Results(sys.stdout)
        return
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # reading a pipe would never end
            raise InputError(f"{str(path)!r} is not a regular file: give --out another name")
        answered, whole = _read(path) if path.exists() else (set(), 0)
        stream = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        try:
            stream.truncate(whole)
        except OSError as error:
            raise _unwritable(path, error) from error
        yield Results(stream, answered)
    finally:
        with suppress(OSError):  # `write` has reported it
            stream.close()


def _unwritable(path: Path, error: OSError) -> InputError:
    if not path.parent.is_dir():
        return InputError(f"{str(path)!r} cannot be written: its folder does not exist")
    return InputError(f"{str(path)!r} cannot be written: {error.strerror or error}")


def _read(path: Path) -> tuple[set[tuple[str, str]], int]:
    """What is answered in a results file, and how many of its bytes are whole lines."""
    answered, whole = set(), 0
    with path.open("rb") as stream:
        for line in stream:
            torn = not line.endswith(b"\n")
            if torn and line[: len(_LINE_START)] == _LINE_START[: len(line)]:
                break
            try:
                record = json.loads(line)
                key = record["file"], _fingerprint(record["request"])
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                raise InputError(f"{str(path)!r} is not a results file: give --out another name") from error
            if torn:
                break
            if "error" not in record:
                answered.add(key)
            whole += len(line)
    return answered, whole


def _fingerprint(request: Mapping[str, object]) -> str:
    return json.dumps(request, sort_keys=True)
