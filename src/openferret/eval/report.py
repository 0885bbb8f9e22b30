"""One page from several results, with tables, bars, reliability and pictures; and the same as Markdown.

The page asks no other host for anything: its style, plots and pictures are inside it. Everything that came
out of a file is escaped; a model's words are text here and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from openferret.errors import InputError
from openferret.eval.files import read_json
from openferret.eval.plots import bars, reliability_plot
from openferret.eval.published import PUBLISHED
from openferret.eval.results import read_results

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem;color:#222}
h2{margin-top:3rem;border-top:3px solid #222;padding-top:.6rem}
table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.25rem .7rem;border-bottom:1px solid #ddd;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}
.official{color:#1b6ca8}.strict{color:#d1495b}.baseline{color:#697386}
svg{width:100%;height:auto;font:12px sans-serif}
svg.bars{max-width:740px}svg.reliability{max-width:320px}.grid{stroke:#ddd}.frame{fill:none;stroke:#999}
.tick{text-anchor:middle;fill:#666}.name{text-anchor:end}.whisker{stroke:#111;stroke-width:1.4;fill:none}
.dot{fill:#d1495b;fill-opacity:.45}.curve{fill:none;stroke:#d1495b}
.gallery{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0;width:320px}
figure img{max-width:100%;display:block}figcaption{font-size:13px;overflow-wrap:anywhere}
.small{color:#666;font-size:13px}
"""
_GALLERY = {"best": "Best", "worst": "Worst", "random": "Chosen by chance"}


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
        page.write_text(to_html(runs), encoding="utf-8")
        text.write_text(to_markdown(runs), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise InputError(
            f"a results or gallery file is not as `openferret eval` writes it ({problem})"
        ) from None
    return page, text


def to_html(runs: Sequence[Run]) -> str:
    """The page."""
    sections = "".join(_section(run) for run in runs)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>OpenFerret evaluation</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<style>{_STYLE}</style></head><body><h1>OpenFerret evaluation</h1>"
        '<p><span class="official">official</span>: as the published scorers count, faults included. '
        '<span class="strict">strict</span>: right. <span class="baseline">baseline</span>: without a model. '
        "Whiskers and brackets: 95 %, bootstrap by picture.</p>"
        f"{sections}</body></html>\n"
    )


def to_markdown(runs: Sequence[Run]) -> str:
    """The tables of the page."""
    lines = ["# OpenFerret evaluation", ""]
    for run in runs:
        lines += [f"## {_plain(_title(run.results))}", "", _plain(_facts(run.results)), ""]
        lines += ["| figure | rule | value | 95 % | n |", "| --- | --- | ---: | --- | ---: |"]
        lines += [
            f"| {_plain(one['name'])} | {one['rule']} | {_value(one)} | {_interval(one)} | {one['n']} |"
            for one in run.results["figures"]
        ]
        for model, name, value in _published(run.results):
            lines.append(f"| {name} | published, {model} | {value:g} | | |")
        lines += ["", *(f"- {_plain(note)}" for note in run.results.get("notes", ())), ""]
    return "\n".join(lines)


def _section(run: Run) -> str:
    results = run.results
    rows = [(one["name"], one["rule"], _value(one), _interval(one), one["n"]) for one in results["figures"]]
    rows += [
        (name, f"published, {model}", f"{value:g}", "", "") for model, name, value in _published(results)
    ]
    shares = [one for one in results["figures"] if one["unit"] == "share"]
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in results.get("notes", ()))
    galleries = "".join(
        f'<h3>{title}</h3><div class="gallery">{"".join(map(_shown, run.gallery.get(name, ())))}</div>'
        for name, title in _GALLERY.items()
        if run.gallery.get(name)
    )
    legend = '<p class="small">Green: the truth. Red: the model.</p>' if galleries else ""
    return (
        f"<h2>{escape(_title(results))}</h2><p>{escape(_facts(results))}</p>{bars(shares)}"
        f"{reliability_plot(results.get('reliability', ()))}"
        "<table><tr><th>figure</th><th>rule</th><th>value</th><th>95 %</th><th>n</th></tr>"
        f"{''.join(map(_row, rows))}</table>"
        f"<ul>{notes}</ul>{legend}{galleries}"
        f'<p class="small">{escape(_environment(results))}</p>'
    )


def _row(cells: Sequence[object]) -> str:
    name, rule, *numbers = (escape(str(cell)) for cell in cells)
    right = "".join(f'<td class="n">{number}</td>' for number in numbers)
    return f'<tr><td>{name}</td><td class="{rule.split(",")[0]}">{rule}</td>{right}</tr>'


def _shown(case: Mapping[str, Any]) -> str:
    picture = f'<img alt="" src="data:image/jpeg;base64,{escape(case["jpeg"])}">' if case.get("jpeg") else ""
    wanted = f"<br>wanted: {escape(str(case['wanted']))}" if case.get("wanted") else ""
    said = f"<b>{escape(str(case['title']))}</b><br>said: {escape(str(case['said']))}{wanted}"
    return f"<figure>{picture}<figcaption>{said}<br>{float(case['value']):.2f}</figcaption></figure>"


def _title(results: Mapping[str, Any]) -> str:
    model = results.get("model") or {}
    return f"{results['task']}: {model.get('name') or 'replies from a file'}"


def _facts(results: Mapping[str, Any]) -> str:
    valid = results.get("valid_percent")
    facts = [
        f"{results['n']} questions about {results.get('pictures', '?')} pictures",
        f"{valid} % valid" if valid is not None else "",
        f"{results['unanswered']} unanswered (wrong)" if results.get("unanswered") else "",
        f"{results['left_out']} left out for want of their picture" if results.get("left_out") else "",
        f"scorer {results.get('scorer_version')}, prompts {results.get('prompt_hash')}",
        f"weights {(results.get('model') or {}).get('digest') or 'unknown'}",
        f"{results['seconds']} s" if results.get("seconds") is not None else "",
    ]
    return "; ".join(fact for fact in facts if fact)


def _environment(results: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in results.get("environment", {}).items())


def _published(results: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    rows = PUBLISHED.get(str(results["task"]), ())
    return [(row.model, name, value) for row in rows for name, value in row.figures.items()]


def _value(figure: Mapping[str, Any]) -> str:
    value = figure["value"]
    if value is None:
        return "-"
    return f"{100 * value:.2f}" if figure["unit"] == "share" else f"{value:.2f}"


def _interval(figure: Mapping[str, Any]) -> str:
    if figure["low"] is None:
        return ""
    factor = 100 if figure["unit"] == "share" else 1
    return f"[{factor * figure['low']:.2f}, {factor * figure['high']:.2f}]"


def _plain(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
