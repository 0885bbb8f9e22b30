"""The page of a report: one HTML file with its style, plots and pictures inside; it asks no host for anything.

Everything that came out of a file is escaped: a model's words are text here and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from openferret.eval.plots import bars, reliability_plot
from openferret.eval.published import PUBLISHED, Published

STYLE = """
:root{--ink:#1c2733;--soft:#5d6b79;--line:#dfe5ea;--back:#fff;--card:#f6f8fa;--official:#1b6ca8;--strict:#c8553d;
--baseline:#8d99ae}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#9aa7b4;--line:#2c3742;--back:#12181f;--card:#1b232c;
--official:#58a6dd;--strict:#e8836e;--baseline:#77839a}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;max-width:1120px;margin:0 auto;
padding:2rem 1.25rem 4rem;color:var(--ink);background:var(--back)}
h1{font-size:1.9rem;margin:0 0 .3rem}h2{font-size:1.4rem;margin:0}h3{font-size:1rem;margin:1.8rem 0 .6rem}
section{margin-top:3.2rem;padding-top:1.6rem;border-top:2px solid var(--line)}
a{color:var(--official);text-decoration:none}a:hover{text-decoration:underline}
.soft{color:var(--soft);font-size:13px}.wide{overflow-x:auto}
.key{display:inline-block;width:.75em;height:.75em;border-radius:2px;margin:0 .35em 0 .9em}
.key.official{background:var(--official);margin-left:0}.key.strict{background:var(--strict)}
.key.baseline{background:var(--baseline)}.key.other{width:2px;background:var(--ink)}
table{border-collapse:collapse;width:100%;margin:1rem 0}
th{font-weight:600;color:var(--soft);font-size:13px;text-align:left}
td,th{padding:.32rem .6rem;border-bottom:1px solid var(--line);vertical-align:middle}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.n small{color:var(--soft);display:block;line-height:1.1;font-size:11.5px}
b.official{color:var(--official)}b.strict{color:var(--strict)}b.baseline{color:var(--soft)}
td.plot{width:250px;padding-top:.2rem;padding-bottom:.2rem}td.said{font-size:13px;white-space:nowrap}
svg{display:block}svg.bars{width:240px}svg.reliability{width:340px;max-width:100%;font:12px sans-serif}
.official-bar{fill:var(--official)}.strict-bar{fill:var(--strict)}.baseline-bar{fill:var(--baseline)}
.rail{fill:var(--line)}.whisker{stroke:var(--ink);stroke-width:1.2;fill:none}.other{stroke:var(--ink);stroke-width:2}
.grid{stroke:var(--line)}.frame{fill:none;stroke:var(--soft)}.tick{text-anchor:middle;fill:var(--soft)}
.name{text-anchor:end;fill:var(--soft)}.dot{fill:var(--strict);fill-opacity:.45}
.curve{fill:none;stroke:var(--strict);stroke-width:1.5}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:1rem}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;overflow:hidden}
figure img{width:100%;height:240px;object-fit:contain;background:var(--line);display:block}
figcaption{padding:.55rem .7rem .7rem;font-size:13px;overflow-wrap:anywhere}
figcaption .value{float:right;margin-left:.5rem;padding:0 .45rem;border-radius:9px;background:var(--line);
font-variant-numeric:tabular-nums}
.wanted{color:var(--soft)}ul{padding-left:1.2rem}li{margin:.15rem 0}
@media print{section{break-inside:avoid-page}}
"""
RULES = ("official", "strict", "baseline")
_GALLERY = {"best": "Best", "worst": "Worst", "random": "Chosen by chance"}
_ROOM = 3  # published figures shown in a row; more are folded away


def to_html(runs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> str:
    """The page of several runs.

    Args:
        runs: results and gallery of each, as their files have them.
    """
    names = names_of([results for results, _ in runs])
    overview = "".join(
        _summary(number, name, results)
        for number, (name, (results, _)) in enumerate(zip(names, runs, strict=True))
    )
    sections = "".join(
        _section(number, name, *run) for number, (name, run) in enumerate(zip(names, runs, strict=True))
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>OpenFerret evaluation</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<style>{STYLE}</style></head><body><h1>OpenFerret evaluation</h1>"
        '<p class="soft"><span class="key official"></span>official: as the published scorers count, faults '
        'included<span class="key strict"></span>strict: right<span class="key baseline"></span>baseline: '
        'without a model<span class="key other"></span>published by others. Whiskers and brackets: 95 %, '
        "bootstrap by picture.</p>"
        '<div class="wide"><table><tr><th>task</th><th>model</th><th>first figure</th>'
        '<th class="n">value</th><th class="n">questions</th><th class="n">valid</th></tr>'
        f"{overview}</table></div>{sections}</body></html>\n"
    )


def value_of(figure: Mapping[str, Any]) -> str:
    """In percent or points, to two decimals; a dash where nothing was counted."""
    value = figure["value"]
    if value is None:
        return "-"
    return f"{100 * value:.2f}" if figure["unit"] == "share" else f"{value:.2f}"


def interval_of(figure: Mapping[str, Any]) -> str:
    """The same of both ends, in brackets; empty where there are none."""
    if figure["low"] is None:
        return ""
    factor = 100 if figure["unit"] == "share" else 1
    return f"[{factor * figure['low']:.2f}, {factor * figure['high']:.2f}]"


def names_of(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The task of each run, with those of its options in which the runs of one task differ.

    >>> hard, random = {"seed": 0, "negatives": "hard"}, {"seed": 0, "negatives": "random"}
    >>> names_of([{"task": "lvis-refer", "options": hard}, {"task": "lvis-refer", "options": random}])
    ['lvis-refer, negatives hard', 'lvis-refer, negatives random']
    """
    names = []
    for run in runs:
        mine = _options(run)
        same_task = [_options(one) for one in runs if one["task"] == run["task"]]
        # Results of earlier versions have no options: what they were of is not known.
        others = [one for one in same_task if one] if mine else []
        known = dict.fromkeys(name for one in others for name in one)
        telling = [name for name in known if any(one.get(name) != mine.get(name) for one in others)]
        names.append(", ".join([str(run["task"]), *(f"{name} {mine.get(name, '-')}" for name in telling)]))
    return names


def title_of(name: str, results: Mapping[str, Any]) -> str:
    """A run's name (see `names_of`) and model."""
    return f"{name}: {_model(results)}"


def facts_of(results: Mapping[str, Any]) -> str:
    """How much was asked, of what, with what, how long; separated by semicolons."""
    valid = results.get("valid_percent")
    facts = [
        f"{results['n']} questions about {results.get('pictures', '?')} pictures",
        ", ".join(f"{name} {value}" for name, value in _options(results).items()),
        f"{valid} % valid" if valid is not None else "",
        f"{results['unanswered']} unanswered (wrong)" if results.get("unanswered") else "",
        f"{results['left_out']} left out for want of their picture" if results.get("left_out") else "",
        f"scorer {results.get('scorer_version')}, prompts {results.get('prompt_hash')}",
        f"weights {(results.get('model') or {}).get('digest') or 'unknown'}",
        f"{results['seconds']} s" if results.get("seconds") is not None else "",
    ]
    return "; ".join(fact for fact in facts if fact)


def published_of(results: Mapping[str, Any]) -> tuple[Published, ...]:
    """What others published on this task."""
    return PUBLISHED.get(str(results["task"]), ())


def _model(results: Mapping[str, Any]) -> str:
    return str((results.get("model") or {}).get("name") or "replies from a file")


def _options(results: Mapping[str, Any]) -> dict[str, str]:
    words = {True: "yes", False: "no"}
    options = (results.get("options") or {}).items()
    return {
        str(name).replace("_", " "): words[value] if isinstance(value, bool) else str(value)
        for name, value in options
    }


def _summary(number: int, name: str, results: Mapping[str, Any]) -> str:
    first = next(iter(results["figures"]), None)
    figure = "" if first is None else f"{first['name']}, {first['rule']}"
    value = "" if first is None else f"<b>{value_of(first)}</b><small>{interval_of(first)}</small>"
    valid = results.get("valid_percent")
    cells = "".join(
        f'<td class="n">{one}</td>'
        for one in (value, escape(str(results["n"])), "" if valid is None else f"{escape(str(valid))} %")
    )
    task = f'<a href="#run{number}">{escape(name)}</a>'
    return f"<tr><td>{task}</td><td>{escape(_model(results))}</td><td>{escape(figure)}</td>{cells}</tr>"


def _section(number: int, name: str, results: Mapping[str, Any], gallery: Mapping[str, Any]) -> str:
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in results.get("notes", ()))
    pictures = "".join(
        f'<h3>{title}</h3><div class="gallery">{"".join(map(_shown, gallery.get(kind, ())))}</div>'
        for kind, title in _GALLERY.items()
        if gallery.get(kind)
    )
    legend = '<p class="soft">Boxes: green is the truth, red is the model.</p>' if pictures else ""
    plot = reliability_plot(results.get("reliability", ()))
    environment = ", ".join(
        f"{package} {version}" for package, version in results.get("environment", {}).items()
    )
    return (
        f'<section id="run{number}"><h2>{escape(title_of(name, results))}</h2>'
        f'<p class="soft">{escape(facts_of(results))}</p>{_table(results)}'
        f"{'<h3>Do scores mean what they say?</h3>' + plot if plot else ''}"
        f'<ul class="soft">{notes}</ul>{legend}{pictures}<p class="soft">{escape(environment)}</p></section>'
    )


def _table(results: Mapping[str, Any]) -> str:
    """A row for each figure: its value under every rule, bars, what others published."""
    by_name: dict[str, dict[str, Mapping[str, Any]]] = {}
    for one in results["figures"]:
        by_name.setdefault(one["name"], {})[one["rule"]] = one
    rules = [rule for rule in RULES if any(rule in row for row in by_name.values())]
    published: dict[str, list[Published]] = {}
    for other in published_of(results):
        published.setdefault(other.figure, []).append(other)
    heads = "".join(f'<th class="n">{rule}</th>' for rule in rules)
    said = "<th>published</th>" if published else ""
    rows = "".join(
        _row(name, row, rules, published.get(name, ()), bool(published)) for name, row in by_name.items()
    )
    unmatched = [one for name, several in published.items() if name not in by_name for one in several]
    note = f'<p class="soft">Published, and not measured here: {_listed(unmatched)}</p>' if unmatched else ""
    return (
        f'<div class="wide"><table><tr><th>figure</th>{heads}<th></th>{said}<th class="n">n</th></tr>'
        f"{rows}</table></div>{note}"
    )


def _row(
    name: str,
    row: Mapping[str, Mapping[str, Any]],
    rules: Sequence[str],
    published: Sequence[Published],
    column: bool,
) -> str:
    cells = ""
    for rule in rules:
        one = row.get(rule)
        content = f'<b class="{rule}">{value_of(one)}</b><small>{interval_of(one)}</small>' if one else ""
        cells += f'<td class="n">{content}</td>'
    counts = " / ".join(dict.fromkeys(str(row[rule]["n"]) for rule in rules if rule in row))
    others = [one.value / 100 for one in published] if len(published) <= _ROOM else []
    plot = bars([row[rule] for rule in rules if rule in row], others)
    said = f'<td class="said">{_listed(published)}</td>' if column else ""
    return (
        f'<tr><td>{escape(name)}</td>{cells}<td class="plot">{plot}</td>{said}'
        f'<td class="n">{escape(counts)}</td></tr>'
    )


def _listed(published: Sequence[Published]) -> str:
    lines = [
        f"{one.value:g} {escape(one.model)}{', ' + escape(one.where) if one.where else ''}"
        for one in published
    ]
    if len(lines) <= _ROOM:
        return "<br>".join(lines)
    return f"<details><summary>{len(lines)} figures</summary>{'<br>'.join(lines)}</details>"


def _shown(case: Mapping[str, Any]) -> str:
    picture = f'<img alt="" src="data:image/jpeg;base64,{escape(case["jpeg"])}">' if case.get("jpeg") else ""
    said = f"<br>{escape(str(case['said']))}" if case.get("said") else ""
    wanted = (
        f'<br><span class="wanted">wanted: {escape(str(case["wanted"]))}</span>' if case.get("wanted") else ""
    )
    value = f'<span class="value">{float(case["value"]):.2f}</span>'
    return (
        f"<figure>{picture}<figcaption>{value}<b>{escape(str(case['title']))}</b>{said}{wanted}"
        "</figcaption></figure>"
    )
