"""The results file: what was measured, on what, with what, and how sure it is."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from openferret import __version__
from openferret.errors import InputError
from openferret.eval.files import read_json
from openferret.eval.questions import Question, digest, questions_digest
from openferret.eval.scores import Benchmark, Score

FORMAT = 1
_PACKAGES = ("torch", "transformers", "numpy", "pillow", "nltk")


def environment() -> dict[str, str]:
    """Versions and machine, without names of people or folders.

    >>> "python" in environment()
    True
    """
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    machine = {"system": platform.system(), "machine": platform.machine(), "cpus": str(os.cpu_count() or 0)}
    return {"openferret": __version__, "python": platform.python_version(), **versions, **machine}


def make_results(
    benchmark: Benchmark,
    asked: Sequence[Question],
    score: Score,
    model: Mapping[str, Any] | None,
    *,
    seconds: float | None,
    left_out: int = 0,
    unanswered: int = 0,
) -> dict[str, Any]:
    """The content of a results file.

    Args:
        benchmark: whose score it is.
        asked: the questions that were scored.
        score: of them.
        model: JSON form of its card, None where replies came from a file that does not say.
        seconds: that the asking took, None where nothing was asked.
        left_out: questions that were not asked because their picture is missing.
        unanswered: questions that were asked and failed; they count as wrong.
    """
    valid, n = score.valid
    return {
        "format": FORMAT,
        "task": benchmark.task,
        "options": dict(benchmark.options),
        "scorer_version": benchmark.version,
        "prompt_hash": digest(dict(benchmark.prompts))[:16],
        "prompts": dict(benchmark.prompts),
        "questions": questions_digest(asked),
        "model": dict(model) if model else None,
        "n": len(asked),
        "pictures": len({one.picture for one in asked}),
        "valid_percent": round(100 * valid / n, 2) if n else None,
        "left_out": left_out,
        "unanswered": unanswered,
        "figures": [_figure_dict(one) for one in score.figures],
        "reliability": [asdict(one) for one in score.reliability],
        "notes": [*benchmark.notes, *score.notes],
        "environment": environment(),
        "seconds": None if seconds is None else round(seconds, 1),
    }


def _figure_dict(figure: Any) -> dict[str, Any]:
    estimate = figure.estimate
    numbers = {
        name: None if value is None else round(value, 6)
        for name, value in (("value", estimate.value), ("low", estimate.low), ("high", estimate.high))
    }
    return {"name": figure.name, "rule": figure.rule, "unit": figure.unit, "n": estimate.n, **numbers}


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    draft = path.with_suffix(path.suffix + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None


def read_results(path: Path) -> dict[str, Any]:
    """A results file.

    Raises:
        InputError: it is missing or something else.
    """
    content = read_json(path)
    wanted = {"task", "figures", "n", "format"}
    if not isinstance(content, dict) or not wanted <= content.keys() or content["format"] != FORMAT:
        raise InputError(f"{path} is not a results file of `openferret eval` (format {FORMAT})")
    return content
