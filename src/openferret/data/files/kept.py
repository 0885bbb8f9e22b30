"""JSON lines by key, in a file that is only appended to: a kill loses at most the line being written."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openferret.errors import InputError
from openferret.eval.files import parse_json


@dataclass
class Kept:
    """Lines that were kept, by one of their values; any number of threads may use it.

    Args:
        path: of the file; it is made when the first line is kept.
        key: which of a line's values names it.
        in_memory: whether lines can be asked for by name; otherwise only their names and places are held.

    Raises:
        InputError: a line, other than an unfinished last one, that is no object with this key.

    A file that is only read stays as it is: an unfinished last line is cut off when the next line is kept.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     kept = Kept(Path(folder) / "done.jsonl", "id")
        ...     kept.put({"id": "a", "n": 1})
        ...     "a" in Kept(kept.path, "id")
        True
    """

    path: Path
    key: str
    in_memory: bool = True
    _lines: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    _places: dict[str, int] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _ended: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        for place, entry in self._read():
            self._hold(entry, place)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All lines, read from the file."""
        for _, entry in self._read():
            yield entry

    def by_name(self) -> Iterator[dict[str, Any]]:
        """Lines by their names, whatever the order they were kept in; one is in memory at a time."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as stream:
            for name in sorted(self._places):
                stream.seek(self._places[name])
                yield self._entry(stream.readline(), name)

    def get(self, name: str) -> dict[str, Any] | None:
        """The line of that name, if lines are held in memory."""
        return self._lines.get(name)

    def put(self, entry: dict[str, Any]) -> None:
        """Keeps a line, in the file before anything else happens.

        Raises:
            InputError: it cannot be written; the file is as it was.
        """
        line = json.dumps(entry, ensure_ascii=False, sort_keys=True) + "\n"
        with self._lock:
            place = 0
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._end_last_line()
                with self.path.open("ab") as stream:
                    place = stream.tell()
                    stream.write(line.encode())
            except OSError as error:
                # Half a line (the disk is full) would join with the next thread's.
                with suppress(OSError):
                    os.truncate(self.path, place)
                raise InputError(
                    f"{self.path} cannot be written: {error.strerror or error}; mend that and run the same again, "
                    "it goes on where it stopped"
                ) from None
            self._hold(entry, place)

    def _read(self) -> Iterator[tuple[int, dict[str, Any]]]:
        if not self.path.is_file():
            return
        place = 0
        with self.path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n") and not _is_whole(
                    line
                ):  # killed while writing, or at it just now
                    return
                yield place, self._entry(line, f"line {number}")
                place += len(line)

    def _end_last_line(self) -> None:
        """Before the first line is added: a half-written last line goes, a whole one gets its end."""
        if self._ended:
            return
        self._ended = True
        if not self.path.is_file():
            return
        last, size = b"", 0
        with self.path.open("rb") as stream:
            for line in stream:
                last, size = line, size + len(line)
        if not last or last.endswith(b"\n"):
            return
        if _is_whole(last):
            with self.path.open("ab") as stream:
                stream.write(b"\n")
        else:
            os.truncate(self.path, size - len(last))

    def _entry(self, line: bytes, where: str) -> dict[str, Any]:
        place = f"{self.path} {where}"
        entry = parse_json(line.decode("utf-8", "replace"), place)
        if not isinstance(entry, dict) or not isinstance(entry.get(self.key), str):
            raise InputError(f"{place} has no {self.key!r}: this is another file, or it is damaged")
        return entry

    def _hold(self, entry: dict[str, Any], place: int) -> None:
        self._places[entry[self.key]] = place
        if self.in_memory:
            self._lines[entry[self.key]] = entry


def _is_whole(line: bytes) -> bool:
    """Whether a line without its end is an object all the same, as an editor leaves it; no part of one is."""
    try:
        return isinstance(parse_json(line.decode("utf-8", "replace"), "the line"), dict)
    except InputError:
        return False
