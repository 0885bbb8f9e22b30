"""What a task gives: figures with intervals under two rules, cases to look at, a reliability plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from openferret.eval.metrics.bootstrap import Estimate
from openferret.eval.metrics.boxes import BoxNumbers
from openferret.eval.metrics.calibration import ReliabilityBin
from openferret.eval.questions import Question, Replies

Rule = Literal["official", "strict", "baseline"]


@dataclass(frozen=True)
class Figure:
    """One number of a results file.

    Args:
        name: of the metric, as `R@1` or `accuracy, point`.
        rule: `official` (bug for bug, to compare with the paper), `strict` (right), or `baseline` (what needs
            no model).
        estimate: value, interval and n; the value is a share 0..1 unless `unit` says otherwise.
        unit: `share`, or `points` for scores that are no shares (CIDEr).
    """

    name: str
    rule: Rule
    estimate: Estimate
    unit: Literal["share", "points"] = "share"


@dataclass(frozen=True)
class Case:
    """A question with its reply, to be looked at in a report; boxes in 0..1."""

    question: str
    picture: str
    title: str
    value: float
    said: str
    wanted: str
    predicted: tuple[BoxNumbers, ...] = ()
    truth: tuple[BoxNumbers, ...] = ()


@dataclass(frozen=True)
class Score:
    """All that scoring gives.

    Args:
        figures: in order of importance.
        valid: how many of the asked questions have a usable answer under the strict rule, and how many were
            asked.
        cases: one for each question that can be shown.
        reliability: bins of the boxes' scores, empty where there are none.
        notes: sentences about what was counted how.
    """

    figures: tuple[Figure, ...]
    valid: tuple[int, int]
    cases: tuple[Case, ...] = ()
    reliability: tuple[ReliabilityBin, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """A task with its data read: what is asked, about which files, and how replies are scored.

    Args:
        task: name on the command line.
        version: of the scorer; raised whenever the same replies would give another figure.
        prompts: every template that questions are made from, for the prompt hash.
        questions: in the order they are asked, those about one picture together.
        pictures: file of each picture key.
        score: scores the replies to the questions that were asked; one without a reply counts as wrong.
        notes: sentences about data that was left out.
        options: of the task as they were chosen, by name, which tell one run of it from another; files by their
            names alone.
    """

    task: str
    version: int
    prompts: Mapping[str, str]
    questions: tuple[Question, ...]
    pictures: Mapping[str, Path]
    score: Callable[[Sequence[Question], Replies], Score]
    notes: tuple[str, ...] = ()
    options: Mapping[str, bool | int | str] = field(default_factory=dict)
