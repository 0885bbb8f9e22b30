"""A page to look through a data set: samples with their pictures, boxes and regions, in one file.

The page asks no host for anything and runs no script. Words of the data are escaped; pictures are small JPEGs
inside it, boxes are drawn over them in the colour of their phrase.
"""

from __future__ import annotations

import base64
import heapq
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import zip_longest
from pathlib import Path

from PIL import Image

from openferret.data.building.mixture import sample_key
from openferret.data.files.atomic import write_text
from openferret.data.loading.dataset import Dataset
from openferret.data.marks import MarkKind, find_marks, replace_marks
from openferret.data.schema import Sample
from openferret.errors import InputError
from openferret.regions import Box, Mask, Point, Polygon, Region, Scribble

COLOURS = ("#c8102e", "#0b5fd0", "#1a7f37", "#8a2be2", "#b75301", "#c2187f", "#0a7c86", "#6b4e16", "#3c3a99")
_SIDE = 400  # pixels of the longer side of a picture on the page
_FRAME = (
    380,
    300,
)  # what a picture is fitted into, in pixels of the page: lines and numbers are as thick in all
_LONGEST = 2000  # characters of a turn that are shown
_TINT = 0.4


@dataclass(frozen=True)
class Chosen:
    """What of a data set is shown.

    Args:
        limit: most samples.
        task: only this task; None for all, in turn.
        source: only this source.
        negative: only samples that are negative, or only those that are not.
        seed: another seed, other samples.
    """

    limit: int = 60
    task: str | None = None
    source: str | None = None
    negative: bool | None = None
    seed: int = 0

    def of(self, samples: Iterable[Sample]) -> list[Sample]:
        """Chosen by chance, the same number of each task and source as far as there are so many."""
        kept: dict[tuple[str, str, bool], list[tuple[int, str, Sample]]] = {}
        for sample in samples:
            source = sample.id.partition("/")[0]
            if self.task not in (None, sample.task) or self.source not in (None, source):
                continue
            if self.negative not in (None, sample.negative):
                continue
            heap = kept.setdefault((source, sample.task, sample.negative), [])
            entry = (-sample_key(sample.id, self.seed), sample.id, sample)
            (heapq.heappush if len(heap) < self.limit else heapq.heappushpop)(heap, entry)
        ordered = [[entry[2] for entry in sorted(heap, reverse=True)] for _, heap in sorted(kept.items())]
        turns = (sample for each in zip_longest(*ordered) for sample in each if sample is not None)
        return [sample for sample, _ in zip(turns, range(self.limit), strict=False)]


def write_page(dataset: Dataset, chosen: Chosen, target: Path) -> int:
    """Writes the page.

    Args:
        dataset: opened.
        chosen: what is shown.
        target: the HTML file.

    Returns:
        How many samples it shows.

    Raises:
        InputError: the data set is damaged, or the file cannot be written. A picture that is missing is told on
            the page.
    """
    samples = chosen.of(dataset.samples())
    write_text(target, to_html(dataset, samples))
    return len(samples)


def to_html(dataset: Dataset, samples: Sequence[Sample]) -> str:
    """The page of some samples."""
    name = escape(str(dataset.manifest.get("name", "")))
    tasks = sorted({sample.task for sample in samples})
    filters = "".join(
        f'<label><input type="radio" name="task" id="t{number}"{" checked" * (number == 0)}>{escape(task)}</label>'
        for number, task in enumerate(["all", *tasks])
    )
    rules = "".join(
        f"body:has(#t{number}:checked) article:not(.t{number}){{display:none}}"
        for number in range(1, len(tasks) + 1)
    )
    numbers = {task: number for number, task in enumerate(tasks, 1)}
    articles = "".join(_article(dataset, sample, numbers[sample.task]) for sample in samples)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<style>{_STYLE}{rules}</style></head><body><header><h1>{name}</h1>"
        f"<p>{len(samples)} of {dataset.manifest['samples']:,} samples. A number in the text is the box of that "
        f"number and colour; regions that a question points at are dashed.</p><nav>{filters}</nav></header>"
        f"<main>{articles}</main></body></html>\n"
    )


def _article(dataset: Dataset, sample: Sample, number: int) -> str:
    source = escape(sample.id.partition("/")[0])
    badge = '<span class="no">negative</span>' if sample.negative else ""
    turns = "".join(
        f'<p class="{turn.role}">{_words(turn.text[:_LONGEST])}{"…" * (len(turn.text) > _LONGEST)}</p>'
        for turn in sample.turns
    )
    facts = [sample.id, sample.provenance.template, sample.provenance.generator, sample.provenance.licence]
    return (
        f'<article class="t{number}">{_picture(dataset, sample)}<div class="said">'
        f'<p class="kind"><b>{escape(sample.task)}</b> {source} {badge}</p>{turns}'
        f'<p class="facts">{escape(" · ".join(fact for fact in facts if fact))}</p></div></article>'
    )


def _words(text: str) -> str:
    """A turn's text with its marks as coloured numbers; all else escaped."""
    # Marks are found before anything is escaped, so a placeholder that no text can hold stands for each.
    pieces: list[str] = []

    def keep(kind: MarkKind, index: int) -> str:
        sign = "region " if kind == "region" else ""
        pieces.append(f'<span class="mark" style="background:{_colour(index)}">{sign}{index}</span>')
        return "\0"

    escaped = escape(replace_marks(text.replace("\0", ""), keep)).split("\0")
    return "".join(part for pair in zip_longest(escaped, pieces, fillvalue="") for part in pair)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _picture(dataset: Dataset, sample: Sample) -> str:
    if sample.picture is None:
        return '<div class="picture none">no picture</div>'
    try:
        image = dataset.load_picture(sample.picture)
    except InputError as error:
        return f'<div class="picture none">{escape(str(error))}</div>'
    width = sample.picture.width or image.width
    height = sample.picture.height or image.height
    small = image.resize(_shown_size(width, height), Image.Resampling.LANCZOS)
    for number, region in enumerate(sample.regions):
        _tint(small, sample, number, region)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    encoded = base64.b64encode(file.getvalue()).decode()
    shapes = "".join(_drawn(sample, max(width / _FRAME[0], height / _FRAME[1])))
    return (
        f'<svg class="picture" viewBox="0 0 {width} {height}" role="img">'
        f'<image href="data:image/jpeg;base64,{encoded}" width="{width}" height="{height}"/>{shapes}</svg>'
    )


def _shown_size(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, _SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _tint(image: Image.Image, sample: Sample, number: int, region: Region) -> None:
    """Colours a mask, and the outline of what a box is around."""
    try:
        runs = sample.mask(number)
        mask = region if isinstance(region, Mask) else runs.mask() if runs is not None else None
    except InputError:
        return
    if mask is None:
        return
    strength = round(255 * (_TINT if isinstance(region, Mask) else _TINT / 2))
    shape = (
        Image.fromarray(mask.array)
        .convert("L")
        .resize(image.size)
        .point(lambda value: strength * (value > 127))
    )
    image.paste(_colour(number), (0, 0), shape)


def _drawn(sample: Sample, unit: float) -> Iterator[str]:
    """Shapes in pixels of the picture; `unit` is a pixel of the page in them."""
    asked = {index for turn in sample.turns if turn.role == "user" for index in _indices(turn.text)}
    for number, region in enumerate(sample.regions):
        dash = f'stroke-dasharray="{5 * unit:.1f} {3 * unit:.1f}" ' if number in asked else ""
        pen = f'fill="none" stroke="{_colour(number)}" stroke-width="{2.2 * unit:.2f}" {dash}'
        yield _shape(region, pen, unit)
        box = sample.box(number)
        yield (
            f'<text x="{box.x1 + 2 * unit:.1f}" y="{box.y1 + 12 * unit:.1f}" font-size="{12 * unit:.1f}" '
            f'fill="{_colour(number)}" class="label" stroke-width="{3 * unit:.2f}">{number}</text>'
        )


def _indices(text: str) -> list[int]:
    return [index for _, index in find_marks(text)]


def _shape(region: Region, pen: str, unit: float) -> str:
    match region:
        case Box(x1, y1, x2, y2):
            return f'<rect x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" height="{y2 - y1:.1f}" {pen}/>'
        case Point(x, y):
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{6 * unit:.1f}" {pen}/>'
        case Polygon(points) | Scribble(points):
            listed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            name = "polygon" if isinstance(region, Polygon) else "polyline"
            return f'<{name} points="{listed}" {pen}/>'
        case Mask():
            return ""


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:0 auto;padding:0 1rem 3rem;color:#1f2328}
header{position:sticky;top:0;background:#fff;padding:.6rem 0;border-bottom:1px solid #d0d7de;z-index:1}
h1{font-size:1.3rem;margin:0}header p{margin:.1rem 0 .4rem;color:#57606a}
nav{display:flex;flex-wrap:wrap;gap:.4rem}
nav label{border:1px solid #d0d7de;border-radius:1rem;padding:0 .7rem;cursor:pointer}
nav label:has(:checked){background:#1f2328;color:#fff}nav input{position:absolute;opacity:0}
nav label:has(:focus-visible){outline:2px solid #0b5fd0}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(340px,1fr));gap:1.6rem 1.2rem;padding-top:1rem}
.picture{display:block;width:100%;height:300px;background:#f6f8fa;margin-bottom:.5rem}
.picture.none{padding:2rem;box-sizing:border-box;color:#57606a;overflow-wrap:anywhere}
.label{paint-order:stroke;stroke:#fff;font-weight:700;font-family:system-ui,sans-serif}
.said{overflow-wrap:anywhere}.said p{margin:0 0 .5rem}
.user{background:#f6f8fa;border-radius:.6rem;padding:.3rem .7rem}.assistant{padding:0 .7rem}
.mark{color:#fff;border-radius:.3rem;padding:0 .35em;font-size:.85em;font-weight:600;white-space:nowrap}
.no{background:#c8102e;color:#fff;border-radius:.3rem;padding:0 .4em;font-size:.85em}
.kind{color:#57606a}.facts{color:#6e7781;font-size:.8rem}
"""
