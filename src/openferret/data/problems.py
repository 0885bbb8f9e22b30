"""What is wrong with single records: named and counted, not raised, so that one bad box costs one box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from openferret.errors import InputError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that could not be used.

    Args:
        kind: a few words that problems of one sort share, as "box outside the picture".
        place: the file and the record in it.
        message: what is wrong there, in a sentence.
    """

    kind: str
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class Problems:
    """Collects problems while a source is read.

    Attributes:
        counts: how many of each kind.
        examples: the first of each kind, at most `kept` of them.

    Args:
        strict: raise the first problem instead.
        kept: examples kept for each kind; all are counted.

    >>> problems = Problems()
    >>> problems.add("empty box", "boxes.csv line 3", "the box has no area")
    >>> problems.counts["empty box"], str(problems.examples[0])
    (1, 'boxes.csv line 3: the box has no area')
    """

    def __init__(self, strict: bool = False, kept: int = 20) -> None:
        self.strict = strict
        self.kept = kept
        self.counts: Counter[str] = Counter()
        self.examples: list[Problem] = []

    def add(self, kind: str, place: str, message: str) -> None:
        """Notes a problem; a strict collector raises it as InputError."""
        problem = Problem(kind, place, message)
        if self.strict:
            raise InputError(str(problem))
        self.counts[kind] += 1
        if self.counts[kind] <= self.kept:
            self.examples.append(problem)

    @property
    def total(self) -> int:
        """How many there were."""
        return self.counts.total()

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.examples)

    def lines(self) -> list[str]:
        """A line for each kind, the most frequent first, with its first example.

        >>> problems = Problems()
        >>> problems.add("empty box", "a.csv line 3", "the box has no area")
        >>> problems.lines()
        ['1 x empty box, as in a.csv line 3: the box has no area']
        """
        first = {problem.kind: problem for problem in reversed(self.examples)}
        return [
            f"{count} x {kind}" + (f", as in {first[kind]}" if kind in first else "")
            for kind, count in self.counts.most_common()
        ]
