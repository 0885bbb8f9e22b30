"""A contact sheet: small pictures in a grid with their boxes, names and scores, the doubtful ones marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from openferret.answer import Answer, LocatedBox
from openferret.labelling.colours import colour_of
from openferret.lettering import drawable_text

_WIDTH, _HEIGHT = 380, 285  # pixels of the room for a picture
_CAPTION, _GAP, _MARGIN = 44, 16, 24
_TEXT, _SMALL = 15, 13
_INK, _FAINT, _PAPER, _MAT, _DOUBT = "#1f2328", "#6e7781", "white", "#f0f2f5", "#ffd60a"
_LONGEST_LABEL = 22

_Spot = tuple[float, float, float, float]


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet.

    Args:
        picture: any size; None if it cannot be shown any more.
        name: of its file.
        answer: what was found in it.
        doubtful: boxes of at most this score are marked.
    """

    picture: Image.Image | None
    name: str
    answer: Answer
    doubtful: float


@dataclass(frozen=True)
class Legend:
    """A class as the legend names it, and its colour as "#rrggbb"."""

    text: str
    colour: str


def draw_sheet(cells: Sequence[Cell], legend: Sequence[Legend], title: str, columns: int) -> Image.Image:
    """Draw pictures in rows under a title and a legend of their classes.

    Args:
        cells: the pictures, row by row.
        legend: the classes.
        title: one line.
        columns: pictures in a row.

    Returns:
        An RGB picture, as high as it needs to be.
    """
    font, small = ImageFont.load_default(_TEXT), ImageFont.load_default(_SMALL)
    width = 2 * _MARGIN + columns * _WIDTH + (columns - 1) * _GAP
    entries = [
        *(Legend(drawable_text(one.text), one.colour) for one in legend),
        Legend("dashed: among the tenth with the lowest scores", _DOUBT),
    ]
    placed = list(_flow(entries, width - 2 * _MARGIN, small))
    top = _MARGIN + 34 + 24 * (1 + max(row for row, _, _ in placed)) + 10
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (width, top + rows * (_HEIGHT + _CAPTION + _GAP) + _MARGIN - _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), title, _INK, ImageFont.load_default(_TEXT + 5))
    for row, x, entry in placed:
        y = _MARGIN + 34 + 24 * row
        draw.rectangle((_MARGIN + x, y + 3, _MARGIN + x + 13, y + 16), entry.colour)
        draw.text((_MARGIN + x + 20, y + 10), entry.text, _INK, small, anchor="lm")
    for number, cell in enumerate(cells):
        left = _MARGIN + (number % columns) * (_WIDTH + _GAP)
        above = top + (number // columns) * (_HEIGHT + _CAPTION + _GAP)
        sheet.paste(_draw_picture(cell, small), (left, above))
        draw.text(
            (left, above + _HEIGHT + 14),
            _fit(drawable_text(cell.name), _WIDTH, font),
            _INK,
            font,
            anchor="lm",
        )
        draw.text((left, above + _HEIGHT + 32), _summary(cell), _FAINT, small, anchor="lm")
    return sheet


def _flow(
    entries: Sequence[Legend], width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> Iterator[tuple[int, float, Legend]]:
    row, x = 0, 0.0
    for entry in entries:
        needed = 20 + font.getlength(entry.text) + 24
        if x and x + needed > width:
            row, x = row + 1, 0.0
        yield row, x, entry
        x += needed


def _summary(cell: Cell) -> str:
    boxes = [box for mention in cell.answer.mentions for box in mention.boxes]
    scores = [box.score for box in boxes if box.score is not None]
    if not boxes:
        return "nothing found"
    return f"{len(boxes)} box{'es' * (len(boxes) > 1)}" + (f", lowest {min(scores):.2f}" if scores else "")


def _draw_picture(cell: Cell, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Image.Image:
    mat = Image.new("RGB", (_WIDTH, _HEIGHT), _MAT)
    draw = ImageDraw.Draw(mat)
    if cell.picture is None:
        draw.text((_WIDTH / 2, _HEIGHT / 2), "cannot be read any more", _FAINT, font, anchor="mm")
        return mat
    scale = min(_WIDTH / cell.picture.width, _HEIGHT / cell.picture.height)
    width = max(1, round(cell.picture.width * scale))
    height = max(1, round(cell.picture.height * scale))
    left, top = (_WIDTH - width) // 2, (_HEIGHT - height) // 2
    mat.paste(cell.picture.resize((width, height), Image.Resampling.LANCZOS), (left, top))
    found = [
        (number, mention.phrase, box)
        for number, mention in enumerate(cell.answer.mentions)
        for box in mention.boxes
    ]
    spots = [_place(box, left, top, width, height) for _, _, box in found]
    for (number, _, box), spot in zip(found, spots, strict=True):
        _outline(draw, spot, colour_of(number), _is_doubtful(box, cell.doubtful))
    taken: list[_Spot] = []
    for (number, phrase, box), spot in zip(found, spots, strict=True):
        doubtful = _is_doubtful(box, cell.doubtful)
        phrase = drawable_text(phrase)
        name = phrase if len(phrase) <= _LONGEST_LABEL else phrase[: _LONGEST_LABEL - 1] + "…"
        label = name if box.score is None else f"{name} {box.score:.2f}"
        fill, ink = (_DOUBT, "black") if doubtful else (colour_of(number), "white")
        room = _free_room(spot, font.getlength(label) + 8, _SMALL + 4, taken)
        taken.append(room)
        draw.rectangle(room, fill)
        draw.text((room[0] + 4, (room[1] + room[3]) / 2), label, ink, font, anchor="lm")
    return mat


def _place(box: LocatedBox, left: int, top: int, width: int, height: int) -> _Spot:
    x1, y1, x2, y2 = box.normalized
    return left + x1 * width, top + y1 * height, left + x2 * width - 1, top + y2 * height - 1


def _is_doubtful(box: LocatedBox, limit: float) -> bool:
    return box.score is not None and box.score <= limit


def _outline(draw: ImageDraw.ImageDraw, spot: _Spot, colour: str, dashed: bool) -> None:
    x1, y1, x2, y2 = spot[0], spot[1], max(spot[0], spot[2]), max(spot[1], spot[3])
    draw.rectangle((x1, y1, x2, y2), outline=colour, width=3)
    if not dashed:
        return
    for start in range(int(x1), int(x2), 14):
        for y in (y1 + 1, y2 - 1):
            draw.line((start, y, min(start + 7, x2), y), _DOUBT, 3)
    for start in range(int(y1), int(y2), 14):
        for x in (x1 + 1, x2 - 1):
            draw.line((x, start, x, min(start + 7, y2)), _DOUBT, 3)


def _free_room(spot: _Spot, width: float, height: float, taken: Sequence[_Spot]) -> _Spot:
    """Where a label hides the least of the others: above its box, inside it or below."""
    x1, y1, x2, y2 = spot
    places = [(x1, y1 - height), (x1, y1), (x1, y2), (x2 - width, y2 - height), (x2 - width, y1)]
    for step in range(1, 6):  # and then further off: many boxes may crowd in one place
        places += [(x1, y1 - (step + 1) * height), (x1, y2 + step * height), (x2, y1 + (step - 1) * height)]
        places += [(x1 - width, y1 + (step - 1) * height)]
    rooms = []
    for x, y in places:
        x = min(max(0.0, x), _WIDTH - width)
        y = min(max(0.0, y), _HEIGHT - height)
        rooms.append((x, y, x + width, y + height))
    return min(rooms, key=lambda room: sum(_overlap(room, other) for other in taken))


def _overlap(a: _Spot, b: _Spot) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def _fit(text: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """A name cut at its beginning, where names of one folder are alike."""
    if font.getlength(text) <= width:
        return text
    while len(text) > 1 and font.getlength("…" + text) > width:
        text = text[1:]
    return "…" + text
