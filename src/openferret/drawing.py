"""An answer drawn on its picture: phrases in the caption and boxes on the picture in matching colours.

Everything is measured in `em`, a text height that follows the size of the drawing, so that a drawing of 60
pixels and one of 8000 are equally readable. Small pictures are enlarged; very thin ones get a border, so that
outlines and labels have a place to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from openferret.answer import Answer
from openferret.lettering import drawable, drawable_text
from openferret.regions import Box, Point, Region, fit_region, region_bounds, region_mask

# Dark enough to be read as text on white, far enough apart to be told apart side by side.
_COLOURS = ("#c8102e", "#0b5fd0", "#1a7f37", "#8a2be2", "#b75301", "#c2187f", "#0a7c86", "#6b4e16", "#3c3a99")
_ABSENT = "#6e7781"
_INK = "#1f2328"
_REGION = "#ffd60a"
_BORDER = "#d0d7de"

_MIN_SIDE = 640  # pixels of the longer side of the drawing
_MIN_EMS = 6  # a drawing is at least so many em high
_MIN_EMS_WIDE = 20  # and wide, so that the caption has room
_LONGEST_CAPTION = 1500  # characters; the whole text is in the answer itself
_LONGEST_LABEL = 32
_LONGEST_WORD = 24

_Rectangle = tuple[float, float, float, float]


def draw_answer(
    image: Image.Image,
    answers: Answer | Sequence[Answer],
    regions: Sequence[Region] = (),
    *,
    title: str | None = None,
) -> Image.Image:
    """Draw one or several answers about a picture.

    Args:
        image: The upright picture that the answers are about.
        answers: One answer, or one for each region; several are captioned [0], [1], ...
        regions: What was pointed at, in pixels of the picture: drawn in yellow, numbered [0], [1], ...
        title: The question, written above the answer.

    Returns:
        A new RGB picture, at least 640 pixels on its longer side: the picture with its boxes, over a caption.

    Raises:
        InputError: A region that cannot be put on this picture.

    Example:
        >>> answer = Answer("a dog", (), 60, 40, "none", {})
        >>> draw_answer(Image.new("RGB", (60, 40)), answer).width
        640
    """
    answers = [answers] if isinstance(answers, Answer) else list(answers)
    colours = _assign_colours(answers)
    stage = _Stage(image)
    for number, region in enumerate(regions):
        stage.add_region(fit_region(region, *image.size)[0], f"[{number}]")
    for answer in answers:
        for mention in answer.mentions:
            for box in mention.boxes:
                score = "" if box.score is None else f" {box.score:.2f}"
                label = _shorten(mention.phrase, _LONGEST_LABEL) + score
                stage.add_box(box.pixels, label, colours[_key(mention.phrase)])
    stage.write_labels()
    return _with_caption(stage, _paragraphs(answers, title, colours))


def _key(phrase: str) -> str:
    return " ".join(phrase.casefold().split())


def _assign_colours(answers: Sequence[Answer]) -> dict[str, str]:
    phrases = dict.fromkeys(_key(m.phrase) for answer in answers for m in answer.mentions if m.boxes)
    return {phrase: _COLOURS[i % len(_COLOURS)] for i, phrase in enumerate(phrases)}


def _shorten(text: str, longest: int) -> str:
    text = drawable_text(" ".join(text.split()))
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _corners(box: Box) -> _Rectangle:
    return box.x1, box.y1, box.x2, box.y2


@dataclass
class _Label:
    text: str
    near: _Rectangle
    colour: str
    ink: str


@dataclass
class _Stage:
    """The picture on its canvas, and the way from the picture's pixels to the canvas's."""

    picture: Image.Image
    labels: list[_Label] = field(default_factory=list)

    @cached_property
    def scale(self) -> float:
        return max(1.0, _MIN_SIDE / max(self.picture.size))

    @cached_property
    def shown(self) -> tuple[int, int]:
        """Size of the picture on the canvas."""
        width, height = self.picture.size
        return max(1, round(width * self.scale)), max(1, round(height * self.scale))

    @cached_property
    def em(self) -> int:
        # Of a long strip its short side counts: letters of its length's size would want a canvas as wide.
        return max(16, round(min(max(self.shown) / 45, min(self.shown) / _MIN_EMS)))

    @cached_property
    def line(self) -> int:
        return max(2, round(self.em / 6))

    @cached_property
    def font(self) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return ImageFont.load_default(self.em)

    @cached_property
    def offset(self) -> tuple[int, int]:
        width, height = self.shown
        return max(0, _MIN_EMS_WIDE * self.em - width) // 2, max(0, _MIN_EMS * self.em - height) // 2

    @cached_property
    def canvas(self) -> Image.Image:
        (width, height), (left, top) = self.shown, self.offset
        canvas = Image.new("RGB", (width + 2 * left, height + 2 * top), _BORDER)
        # Far enlarged, a picture shows its own pixels: that is what was looked at.
        how = Image.Resampling.NEAREST if self.scale > 4 else Image.Resampling.BICUBIC
        canvas.paste(self.picture.convert("RGB").resize(self.shown, how), self.offset)
        return canvas

    @cached_property
    def draw(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.canvas)

    def place(self, corners: _Rectangle) -> _Rectangle:
        (left, top), (width, height) = self.offset, self.shown
        x, y = width / self.picture.width, height / self.picture.height
        x1, y1, x2, y2 = corners
        return left + x1 * x, top + y1 * y, left + x2 * x, top + y2 * y

    def add_box(self, corners: _Rectangle, label: str, colour: str) -> None:
        placed = self.place(corners)
        self.outline(placed, colour, "white")
        self.labels.append(_Label(label, placed, colour, "white"))

    def add_region(self, region: Region, label: str) -> None:
        bounds = self.place(_corners(region_bounds(region, *self.picture.size)))
        if isinstance(region, Box):
            self.outline(bounds, _REGION, "black")
        elif not isinstance(region, Point):
            self.tint(region)
        small = max(bounds[2] - bounds[0], bounds[3] - bounds[1]) < self.em
        if isinstance(region, Point) or (small and not isinstance(region, Box)):
            bounds = self.ring(bounds)
        self.labels.append(_Label(label, bounds, _REGION, "black"))

    def outline(self, placed: _Rectangle, colour: str, halo: str) -> None:
        """Frame a box from outside, so that the smallest box still shows what is in it."""
        line, thin = self.line, max(1, self.line // 2)
        for grow, width, ink in ((line + 2 * thin, line + 2 * thin, halo), (line + thin, line, colour)):
            x1, y1, x2, y2 = placed
            right, bottom = self.canvas.width - 1, self.canvas.height - 1
            frame = (
                *(min(max(0, round(x1) - grow), right), min(max(0, round(y1) - grow), bottom)),
                *(max(0, min(right, round(x2) - 1 + grow)), max(0, min(bottom, round(y2) - 1 + grow))),
            )
            self.draw.rectangle(frame, outline=ink, width=width)

    def ring(self, bounds: _Rectangle) -> _Rectangle:
        x, y = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
        radius = max(bounds[2] - x, bounds[3] - y, 0.45 * self.em)
        thin = max(1, self.line // 2)
        line = self.line
        for grow, width, ink in ((line + thin, line + 2 * thin, "black"), (line, line, _REGION)):
            r = radius + grow
            self.draw.ellipse((x - r, y - r, x + r, y + r), outline=ink, width=width)
        return x - radius, y - radius, x + radius, y + radius

    def tint(self, region: Region) -> None:
        """Colour a free-form region, with a dark rim."""
        mask = Image.fromarray(region_mask(region, *self.picture.size))
        reach = max(1.0, max(self.shown) / 1600)  # the rim of a huge picture is found on a smaller one
        grid = max(1, round(self.shown[0] / reach)), max(1, round(self.shown[1] / reach))
        mask = mask.convert("L").resize(grid, Image.Resampling.NEAREST)
        rim = mask.filter(ImageFilter.MaxFilter(2 * max(1, round(self.line / reach / 2)) + 1))
        rim = ImageChops.subtract(rim, mask).resize(self.shown, Image.Resampling.NEAREST)
        fill = mask.resize(self.shown, Image.Resampling.NEAREST).point(lambda value: value * 0.45)
        self.canvas.paste(_REGION, self.offset, fill)
        self.canvas.paste("black", self.offset, rim)

    def write_labels(self) -> None:
        """Write the labels over everything, each where it hides the least of the others and of what is small."""
        pad = self.em // 5
        height = self.em + 2 * pad
        taken = [label.near for label in self.labels if label.near[3] - label.near[1] < 2 * height]
        for label in self.labels:
            text = label.text
            while len(text) > 2 and self.font.getlength(text) + 2 * pad > self.canvas.width:
                text = text[:-2].rstrip() + "…"
            width = self.font.getlength(text) + 2 * pad
            x1, y1, x2, y2 = label.near
            gap = self.line
            above, below = y1 - height - gap, y2 + gap
            ways = (
                *((x1, above), (x1, y1), (x1, below), (x2 - width, y2 - height), (x2 + gap, y1)),
                *((x1, above - height), (x1, below + height)),
            )
            spots = [self._inside(x, y, width, height) for x, y in ways]
            spot = min(spots, key=lambda spot: sum(_overlap(spot, other) for other in taken))
            taken.append(spot)
            self.draw.rectangle(spot, fill=label.colour)
            self.draw.text((spot[0] + pad, (spot[1] + spot[3]) / 2), text, label.ink, self.font, anchor="lm")

    def _inside(self, x: float, y: float, width: float, height: float) -> _Rectangle:
        x = max(0.0, min(x, self.canvas.width - width))
        y = max(0.0, min(y, self.canvas.height - height))
        return x, y, x + width, y + height


def _overlap(a: _Rectangle, b: _Rectangle) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


@dataclass(frozen=True)
class _Run:
    """Letters of one colour; underlined if they name something on the picture."""

    text: str
    colour: str = _INK
    underlined: bool = False


# A word is what is never broken over two lines: runs, and whether a space stands before it.
_Word = tuple[bool, list[_Run]]


def _paragraphs(
    answers: Sequence[Answer], title: str | None, colours: Mapping[str, str]
) -> Iterator[list[_Word]]:
    if title:
        title = drawable_text(title)
        yield list(_split(title, [(0, len(title), _Run("", _ABSENT))]))
    for number, answer in enumerate(answers):
        prefix = f"[{number}] " if len(answers) > 1 else ""
        styles = []
        places = [0, *accumulate(len(drawable(one)) for one in answer.text)]
        for mention in answer.mentions:
            start, end = (places[edge] for edge in mention.span)
            colour = colours.get(_key(mention.phrase))
            style = _Run("", colour, underlined=True) if colour and mention.boxes else _Run("", _ABSENT)
            styles.append((start + len(prefix), end + len(prefix), style))
        yield from (list(_split(prefix + drawable_text(answer.text), styles)),) if answer.text.strip() else ()


def _split(text: str, styles: Sequence[tuple[int, int, _Run]]) -> Iterator[_Word]:
    """Cut a text into words, and these into runs where a phrase begins or ends."""
    cut = text if len(text) <= _LONGEST_CAPTION else text[: _LONGEST_CAPTION - 1] + "…"
    edges = sorted({edge for start, end, _ in styles for edge in (start, end)})
    for match in re.finditer(rf"(\s*)(\S{{1,{_LONGEST_WORD}}})", cut):
        first, last = match.span(2)
        steps = [first, *(edge for edge in edges if first < edge < last), last]
        runs = []
        for start, end in pairwise(steps):
            style = next((style for begin, stop, style in styles if begin <= start < stop), _Run(""))
            runs.append(_Run(cut[start:end], style.colour, style.underlined))
        yield bool(match[1]), runs


def _with_caption(stage: _Stage, paragraphs: Iterator[list[_Word]]) -> Image.Image:
    em, font = stage.em, stage.font
    lines = [line for words in paragraphs for line in _wrap(words, stage.canvas.width - 2 * em, font)]
    if not lines:
        return stage.canvas
    width, top = stage.canvas.size
    step = round(1.4 * em)
    page = Image.new("RGB", (width, top + step * len(lines) + em), "white")
    page.paste(stage.canvas)
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        y = top + em // 2 + step * number + step / 2
        for x, run in line:
            draw.text((em + x, y), run.text, run.colour, font, anchor="lm")
            if run.underlined:
                below = y + 0.6 * em
                end = em + x + font.getlength(run.text)
                draw.line((em + x, below, end, below), run.colour, stage.line)
    return page


def _wrap(
    words: Sequence[_Word], width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> list[list[tuple[float, _Run]]]:
    lines: list[list[tuple[float, _Run]]] = [[]]
    x = 0.0
    for spaced, runs in words:
        length = sum(font.getlength(run.text) for run in runs)
        space = font.getlength(" ") if spaced and lines[-1] else 0.0
        if lines[-1] and x + space + length > width:
            lines.append([])
            x = space = 0.0
        x += space
        for run in runs:
            lines[-1].append((x, run))
            x += font.getlength(run.text)
    return lines
