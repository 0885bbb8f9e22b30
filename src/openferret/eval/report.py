"""One page from several results, with tables, bars, reliability and pictures; and the same as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openferret.errors import InputError
from openferret.eval.files import read_json
from openferret.eval.page import facts_of, interval_of, names_of, published_of, title_of, to_html, value_of
from openferret.eval.results import read_results


@dataclass(frozen=True)
class Run:
    """A results file and the pictures that go with it."""

    results: Mapping[str, Any]
    gallery: Mapping[str, Sequence[Mapping[str, Any]]]


def read_run(place: Path) -> Run:
    """A folder that `openferret eval` wrote, or its `results.json`.

    Raises:
        InputError: there is no results file, or it is something else.
    """
    file = place / "results.json" if place.is_dir() else place
    gallery = file.parent / "gallery.json"
    content = read_json(gallery) if gallery.is_file() else {}
    if not isinstance(content, dict):
        raise InputError(f"{gallery} is not a gallery of `openferret eval`")
    return Run(read_results(file), content)


def write_report(places: Sequence[Path], out: Path) -> tuple[Path, Path]:
    """Writes `report.html` and `report.md` into a folder, one section a run.

    Raises:
        InputError: a place without results, or a folder that cannot be written.
    """
    runs = [read_run(place) for place in places]
    page, text = out / "report.html", out / "report.md"
    try:
        out.mkdir(parents=True, exist_ok=True)
        page.write_text(to_html([(run.results, run.gallery) for run in runs]), encoding="utf-8")
        text.write_text(to_markdown(runs), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise InputError(
            f"a results or gallery file is not as `openferret eval` writes it ({problem})"
        ) from None
    return page, text


def to_markdown(runs: Sequence[Run]) -> str:
    """The tables of the page."""
    lines = ["# OpenFerret evaluation", ""]
    for name, run in zip(names_of([run.results for run in runs]), runs, strict=True):
        lines += [f"## {_plain(title_of(name, run.results))}", "", _plain(facts_of(run.results)), ""]
        lines += ["| figure | rule | value | 95 % | n |", "| --- | --- | ---: | --- | ---: |"]
        lines += [
            f"| {_plain(one['name'])} | {one['rule']} | {value_of(one)} | {interval_of(one)} | {one['n']} |"
            for one in run.results["figures"]
        ]
        for other in published_of(run.results):
            figure = f"{other.figure}, {other.where}" if other.where else other.figure
            lines.append(f"| {figure} | published, {other.model} | {other.value:g} | | |")
        lines += ["", *(f"- {_plain(note)}" for note in run.results.get("notes", ())), ""]
    return "\n".join(lines)


def _plain(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
