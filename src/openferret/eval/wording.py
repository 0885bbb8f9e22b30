"""What a model is asked that knows no questions of ours: words, with what it must know about boxes.

These words are part of a result's settings, as they would be of a paper's.
"""

from __future__ import annotations

from openferret.coordinates import box_to_bins, format_bins_text, to_bin
from openferret.eval.questions import Question, Spot, digest
from openferret.regions import Point, region_bounds

FORMS = {
    "ferret": "Write each box as [x1, y1, x2, y2] right after its phrase, whole numbers from 0 to 999.",
    "qwen": 'Answer in JSON: [{"bbox_2d": [x1, y1, x2, y2], "label": "..."}], whole numbers from 0 to 1000.',
    "qwen2.5": 'Answer in JSON: [{"bbox_2d": [x1, y1, x2, y2], "label": "..."}], in pixels.',
    "kosmos": "<grounding>",
    "florence": "",
}
SPACE = "Coordinates are thousandths of the picture's width and height, from its upper left corner."
PIXELS = "Coordinates are pixels of the picture, {width} wide and {height} high, from its upper left corner."
GROUND = "Where is {phrases}? {form} {absent}"
MERGED = "Where is {phrases}? Give one box for each, round all that it names. {form} {absent}"
ABSENT = 'If it is not in the picture, say "not in the picture".'
DESCRIBE = "{text} {form}"
DESCRIBED = "Describe the picture."
PLACE = 'Where is each thing that this sentence names? "{caption}" {form}'
JSON = frozenset({"qwen", "qwen2.5"})
"""Dialects whose boxes do not go into a sentence: captions are asked for first, and their things after."""
WORDS = digest([FORMS, SPACE, PIXELS, GROUND, MERGED, ABSENT, DESCRIBE, PLACE])[:12]
"""What changes with any of them."""


def in_words(question: Question, dialect: str, width: int, height: int) -> str:
    """A question in words alone.

    Args:
        question: whatever is asked.
        dialect: of `openferret.eval.dialects.DIALECTS`.
        width: of the picture as the model sees it, pixels.
        height: the same.
    """
    form = _form(dialect, width, height)
    if question.verb == "describe":
        return DESCRIBE.format(text=question.text or DESCRIBED, form="" if dialect in JSON else form).strip()
    if question.verb == "ground":
        template = MERGED if question.merge else GROUND
        absent = "" if question.forced else ABSENT
        return template.format(phrases=", ".join(question.phrases), form=form, absent=absent).strip()
    text = question.text
    for index, spot in enumerate(question.spots):
        text = text.replace(f"[{index}]", f"region {_place(spot, dialect, width, height)}")
    return f"{text} {_space(dialect, width, height)}" if question.spots else text


def where_all(caption: str, dialect: str, width: int, height: int) -> str:
    """The second question about a caption in a dialect of `JSON`; sizes as for `in_words`."""
    return PLACE.format(caption=caption, form=_form(dialect, width, height))


def _space(dialect: str, width: int, height: int) -> str:
    return PIXELS.format(width=width, height=height) if dialect == "qwen2.5" else SPACE


def _form(dialect: str, width: int, height: int) -> str:
    form = FORMS[dialect]
    return form if dialect in ("kosmos", "florence") else f"{_space(dialect, width, height)} {form}"


def _place(spot: Spot, dialect: str, width: int, height: int) -> str:
    """A point as two numbers, whatever else as the four of its bounds."""
    region = spot.region(width, height)
    if isinstance(region, Point):
        pixels, bins = (region.x, region.y), (to_bin(region.x, width), to_bin(region.y, height))
        return format_bins_text([round(value) for value in pixels] if dialect == "qwen2.5" else bins)
    box = region_bounds(region, width, height)
    if dialect == "qwen2.5":
        return format_bins_text([round(value) for value in (box.x1, box.y1, box.x2, box.y2)])
    return format_bins_text(box_to_bins(box, width, height))
