"""All problems of a build in files of JSON lines: every record that was not used is named, not only counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from openferret.data.files.atomic import explained, whole_file
from openferret.data.problems import Problem, Problems


class ProblemLog(Problems):
    """A collector that also writes each problem to a file, in its order; used in a `with`.

    Args:
        path: of the file; an old one is written over.
        source: named in every line.
        strict: raise the first problem instead.

    Raises:
        InputError: the file cannot be written; or, if strict, the first problem.
    """

    def __init__(self, path: Path, source: str, strict: bool) -> None:
        super().__init__(strict=strict, kept=1)
        self._path, self._source = path, source
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise explained(error, self._path) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        try:
            self._file.close()
        except OSError as full:
            if error is None:  # or the first error is told
                raise explained(full, self._path) from None

    def add(self, kind: str, place: str, message: str) -> None:
        """Notes and writes a problem; a strict collector raises it as InputError."""
        super().add(kind, place, message)
        self.note(Problem(kind, place, message))

    def note(self, problem: Problem) -> None:
        """Writes what is left out on purpose: nothing is raised."""
        if self._file is None:
            return
        try:
            self._file.write(problem_line(self._source, problem))
        except OSError as full:
            raise explained(full, self._path) from None


def problem_line(source: str, problem: Problem) -> str:
    """A line of the file."""
    content = {"source": source, "kind": problem.kind, "place": problem.place, "message": problem.message}
    return json.dumps(content, ensure_ascii=False) + "\n"


def gather(files: Iterable[Path], lines: Iterable[str], target: Path) -> dict[str, dict[str, int]]:
    """Puts logs and single lines together in one file.

    Returns:
        Counts by source, then by kind.

    Raises:
        InputError: it cannot be written.
    """
    counts: dict[str, Counter[str]] = {}
    with whole_file(target) as partial, partial.open("w", encoding="utf-8") as written:
        for line in _all_lines(files, lines):
            content: dict[str, Any] = json.loads(line)
            counts.setdefault(content["source"], Counter())[content["kind"]] += 1
            written.write(line)
    return {source: dict(sorted(found.items())) for source, found in sorted(counts.items())}


def _all_lines(files: Iterable[Path], lines: Iterable[str]) -> Iterable[str]:
    for file in files:
        if file.is_file():
            with file.open(encoding="utf-8") as opened:
                yield from opened
    yield from lines
