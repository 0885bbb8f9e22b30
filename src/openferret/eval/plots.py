"""Small pictures of numbers as inline SVG; `page.py` has their colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _BAR = 240, 9


def bars(figures: Sequence[Mapping[str, Any]], others: Sequence[float] = ()) -> str:
    """A bar from 0 to 1 for each figure with its 95 % interval, in the colour of its rule.

    Args:
        figures: of one metric, as a results file has them; those that are no shares are left out.
        others: values 0..1 published by others, each a stroke across all bars.
    """
    shown = [one for one in figures if one["value"] is not None and one["unit"] == "share"]
    if not shown:
        return ""
    height = (_BAR + 3) * len(shown) + 3
    said = ", ".join(f"{one['rule']} {100 * one['value']:.1f} %" for one in shown)
    parts = [
        f'<svg class="bars" viewBox="0 0 {_WIDTH} {height}" height="{height}" role="img" '
        f'aria-label="{escape(said)}">'
    ]
    for index, one in enumerate(shown):
        y = 3 + index * (_BAR + 3)
        value = _across(one["value"])
        parts += [
            f'<rect x="0" y="{y}" width="{_WIDTH}" height="{_BAR}" class="rail"/>',
            f'<rect x="0" y="{y}" width="{value:.1f}" height="{_BAR}" class="{escape(one["rule"])}-bar"/>',
        ]
        if one["low"] is not None:
            low, high, middle = _across(one["low"]), _across(one["high"]), y + _BAR / 2
            parts.append(
                f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 3}v6M{high:.1f} {middle - 3}v6" '
                'class="whisker"/>'
            )
    for other in others:
        x = _across(other)
        parts.append(f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{height}" class="other"/>')
    return "".join([*parts, "</svg>"])


def _across(share: float) -> float:
    return _WIDTH * min(max(float(share), 0.0), 1.0)


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
