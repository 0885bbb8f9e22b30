"""Small pictures of numbers as inline SVG: bars with intervals, and the reliability plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_COLOURS = {"official": "#1b6ca8", "strict": "#d1495b", "baseline": "#8d99ae"}


def bars(figures: Sequence[Mapping[str, Any]], scale: float = 1.0) -> str:
    """A horizontal bar for each figure, with its 95 % interval.

    Args:
        figures: as a results file has them; those without a value are left out.
        scale: the value at the right end.
    """
    shown = [one for one in figures if one["value"] is not None]
    if not shown:
        return ""
    label, plot, line = 330, 330, 22
    height = line * len(shown) + 20
    parts = [
        f'<svg class="bars" viewBox="0 0 {label + plot + 70} {height}" role="img" '
        f'aria-label="bars with 95 % intervals">'
    ]
    for step in range(5):
        x = label + plot * step / 4
        parts.append(f'<line x1="{x:g}" y1="0" x2="{x:g}" y2="{height - 16}" class="grid"/>')
        parts.append(f'<text x="{x:g}" y="{height - 3}" class="tick">{_tick(scale * step / 4, scale)}</text>')
    for index, one in enumerate(shown):
        y = index * line + 4
        ends = [label + plot * min(max(one[name] / scale, 0), 1) for name in ("value", "low", "high")]
        name = one["name"] if len(one["name"]) <= 46 else one["name"][:45] + "…"
        parts += [
            f'<text x="{label - 6}" y="{y + 11}" class="name">{escape(name)}</text>',
            f'<rect x="{label}" y="{y}" width="{max(ends[0] - label, 0):.1f}" height="14" '
            f'fill="{_COLOURS[one["rule"]]}"/>',
            f'<path d="M{ends[1]:.1f} {y + 7}H{ends[2]:.1f}M{ends[1]:.1f} {y + 3}v8M{ends[2]:.1f} {y + 3}v8" '
            f'class="whisker"/>',
            f'<text x="{label + plot + 6}" y="{y + 11}">{_tick(one["value"], scale)}</text>',
        ]
    return "".join([*parts, "</svg>"])


def reliability_plot(bins: Sequence[Mapping[str, Any]]) -> str:
    """Share of right boxes over their mean score, the area of a dot by how many there are."""
    total = sum(one["n"] for one in bins)
    if not total:
        return ""
    side, left = 240, 44
    parts = [
        f'<svg class="reliability" viewBox="0 0 {side + left + 20} {side + 50}" role="img" '
        'aria-label="reliability of scores">',
        f'<rect x="{left}" y="8" width="{side}" height="{side}" class="frame"/>',
        f'<line x1="{left}" y1="{side + 8}" x2="{left + side}" y2="8" class="grid"/>',
    ]
    for step in range(5):
        at = side * step / 4
        parts += [
            f'<text x="{left + at:g}" y="{side + 24}" class="tick">{step / 4:g}</text>',
            f'<text x="{left - 6}" y="{side + 12 - at:g}" class="name">{step / 4:g}</text>',
        ]
    points = []
    for one in bins:
        if one["n"]:
            x, y = left + side * one["score"], 8 + side * (1 - one["right"])
            points.append(f"{x:.1f} {y:.1f}")
            radius = 3 + 14 * (one["n"] / total) ** 0.5
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="dot">'
                f"<title>score {one['score']:.2f}, right {one['right']:.2f}, n {one['n']}</title></circle>"
            )
    parts.append(f'<polyline points="{" ".join(points)}" class="curve"/>')
    parts.append(f'<text x="{left + side / 2}" y="{side + 42}" class="tick">score</text>')
    parts.append(
        f'<text x="12" y="{side / 2}" class="tick" transform="rotate(-90 12 {side / 2})">right</text>'
    )
    return "".join([*parts, "</svg>"])


def _tick(value: float, scale: float) -> str:
    return f"{100 * value:.1f} %" if scale <= 1 else f"{value:.1f}"
