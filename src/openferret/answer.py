"""What a model said, and where: text with phrases, and boxes for each phrase.

Model output comes in two forms. Text, as the paper writes it: `a man [10, 20, 300, 400] rides ...`. Tokens,
as Kit writes it: `<phrase>a man<box><loc_10><loc_20><loc_300><loc_400> rides ...`. Both are read, mixed too,
in linear time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .coordinates import (
    BINS,
    BoxBins,
    bins_to_box,
    format_bins_text,
    format_bins_tokens,
    normalize_box,
    repair_bins,
    to_bin,
)
from .errors import InputError
from .phrases import last_noun_phrase
from .regions import Box


@dataclass(frozen=True)
class LocatedBox:
    """A box in an answer.

    Args:
        pixels: (x1, y1, x2, y2) of the upright original picture.
        normalized: the same, 0..1 of its width and height.
        score: probability 0..1, None if the model gives none.

    >>> LocatedBox.of(Box(64, 48, 320, 240), 640, 480).normalized
    (0.1, 0.1, 0.5, 0.5)
    """

    pixels: tuple[float, float, float, float]
    normalized: tuple[float, float, float, float]
    score: float | None = None

    @classmethod
    def of(cls, box: Box, width: int, height: int, score: float | None = None) -> LocatedBox:
        """From a box in pixels of a picture of that size; to six decimals, which hides rounding noise."""
        x1, y1, x2, y2 = (round(value, 6) for value in (box.x1, box.y1, box.x2, box.y2))
        left, top, right, bottom = (round(value, 6) for value in normalize_box(box, width, height))
        return cls((x1, y1, x2, y2), (left, top, right, bottom), score)


@dataclass(frozen=True)
class Mention:
    """Something named in an answer: the phrase, its characters `text[span[0]:span[1]]`, and where it is.

    >>> Mention("a man", (0, 5)).boxes
    ()
    """

    phrase: str
    span: tuple[int, int]
    boxes: tuple[LocatedBox, ...] = ()


@dataclass(frozen=True)
class Answer:
    """Words of a model about a picture, and where the things are that it names.

    Args:
        text: words only; boxes and special tokens are taken out.
        mentions: in the order of the text.
        width: of the upright original picture, pixels.
        height: of the upright original picture, pixels.
        model: name of the model.
        timings: seconds by stage.
        warnings: sentences about what was changed or left out of the question.

    Raises:
        InputError: a size below 1 pixel, or a span that is not in the text.

    >>> print(parse_answer("a man [100, 100, 500, 500] waves", 640, 480))
    a man waves
    """

    text: str
    mentions: tuple[Mention, ...]
    width: int
    height: int
    model: str = ""
    timings: Mapping[str, float] = field(default_factory=dict, hash=False)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "mentions", tuple(self.mentions))
        if self.width < 1 or self.height < 1:
            raise InputError(
                f"an answer's picture must have at least 1 x 1 pixels, not {self.width} x {self.height}"
            )
        for mention in self.mentions:
            start, end = mention.span
            if not 0 <= start <= end <= len(self.text):
                raise InputError(
                    f"the span {mention.span} lies outside the answer's {len(self.text)} characters"
                )

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `warnings` is there only if there are any.

        >>> Answer("yes", (), 4, 3).to_dict()
        {'text': 'yes', 'image': {'width': 4, 'height': 3}, 'mentions': [], 'model': '', 'timings': {}}
        """
        mentions = [
            {
                "phrase": mention.phrase,
                "span": list(mention.span),
                "boxes": [
                    {"pixels": list(box.pixels), "normalized": list(box.normalized), "score": box.score}
                    for box in mention.boxes
                ],
            }
            for mention in self.mentions
        ]
        form: dict[str, Any] = {"text": self.text, "image": {"width": self.width, "height": self.height}}
        form |= {"mentions": mentions, "model": self.model, "timings": dict(self.timings)}
        return form | ({"warnings": list(self.warnings)} if self.warnings else {})

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Answer:
        """Reads the JSON form; InputError if it is not one.

        >>> Answer.from_dict(Answer("yes", (), 4, 3).to_dict())
        Answer(text='yes', mentions=(), width=4, height=3, model='', timings={}, warnings=())
        """
        try:
            return cls(
                str(form["text"]),
                tuple(_read_mention(mention) for mention in form["mentions"]),
                int(form["image"]["width"]),
                int(form["image"]["height"]),
                str(form.get("model", "")),
                {str(stage): float(seconds) for stage, seconds in form.get("timings", {}).items()},
                tuple(str(warning) for warning in form.get("warnings", ())),
            )
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as problem:
            raise InputError(
                f"this is not the JSON form of an answer: {type(problem).__name__}: {problem}"
            ) from None


def parse_answer(
    raw: str,
    width: int,
    height: int,
    *,
    scores: Sequence[float | None] = (),
    model: str = "",
    timings: Mapping[str, float] | None = None,
    warnings: Sequence[str] = (),
) -> Answer:
    """Reads model output, whatever it is, in time linear in its length.

    A box is four whole numbers in brackets (several with semicolons between) or four location tokens; numbers
    beyond 0..999 are clipped and corners put in order. Its phrase is what `<phrase>` marked, else the noun
    phrase before it (`openferret.phrases`); boxes that follow each other, also with a comma or "and" between,
    share one. Anything malformed stays text, two-number points too; special tokens and incomplete location
    tokens are taken out.

    Args:
        raw: what the model wrote.
        width: of the upright original picture, pixels.
        height: of the upright original picture, pixels.
        scores: of the boxes that are found, in their order; those without one get None.
        model: kept in the answer.
        timings: kept in the answer.
        warnings: kept in the answer.

    >>> answer = parse_answer("<phrase>two dogs<box><loc_0><loc_0><loc_499><loc_999> run", 640, 480)
    >>> answer.text, answer.mentions[0].phrase, answer.mentions[0].boxes[0].pixels
    ('two dogs run', 'two dogs', (0.32, 0.24, 319.68, 479.76))
    """
    text = _CleanText()
    found: list[tuple[tuple[int, int], list[LocatedBox]]] = []
    remaining = iter(scores)
    position = segment = 0
    marked: int | None = None  # the part of the text at which an open <phrase> begins
    follows = False  # whether a box here would directly follow another
    for match in _MARK.finditer(raw):
        between, mark, position = raw[position : match.start()], match.group(), match.end()
        boxes = _read_boxes(mark)
        if not (boxes and follows and between.strip() in _JOINERS):
            text.write(between)
            follows = follows and not between.strip()
        text.cut = True
        if mark == "<phrase>":
            marked, follows = len(text.parts), False
        elif boxes:
            if not follows:
                found.append((text.phrase_span(segment, marked if mark[0] == "<" else None), []))
            for bins in boxes:
                box = bins_to_box(repair_bins(bins), width, height)
                found[-1][1].append(LocatedBox.of(box, width, height, next(remaining, None)))
            segment, marked, follows = len(text.parts), None, True
        elif mark.startswith(("<box>", "<loc_")):
            marked = None
    text.write(raw[position:])
    words = "".join(text.parts)
    mentions = tuple(Mention(words[start:end], (start, end), tuple(boxes)) for (start, end), boxes in found)
    return Answer(words, mentions, width, height, model, timings or {}, tuple(warnings))


def format_answer(answer: Answer, form: Literal["text", "tokens"] = "text") -> str:
    """The way back from `parse_answer`: the text with the boxes written after their phrases.

    Bins are coarser than pixels, and the text form does not say where a phrase begins: only the token form of
    boxes that came from bins is read back as the same answer.

    >>> format_answer(parse_answer("a man [1, 2, 3, 4] waves", 1000, 1000), "tokens")
    '<phrase>a man<box><loc_1><loc_2><loc_3><loc_4> waves'
    """
    pieces, position = [], 0
    for mention in sorted(answer.mentions, key=lambda mention: mention.span):
        if not mention.boxes:
            continue
        start, end = mention.span
        bins = [_written_bins(box) for box in mention.boxes]
        before, phrase = answer.text[position:start], answer.text[max(start, position) : end]
        if form == "tokens":
            mark = "<phrase>" if phrase else ""
            pieces += [before, mark, phrase, *(f"<box>{format_bins_tokens(four)}" for four in bins)]
        else:
            pieces += [before, phrase, *(f" {format_bins_text(four)}" for four in bins)]
        position = max(end, position)
    return "".join([*pieces, answer.text[position:]])


def _written_bins(box: LocatedBox) -> tuple[int, ...]:
    # Not from pixels: there Ferret stops a pixel before the far edge, and the last bins could not come back.
    return tuple(to_bin(round(side * BINS, 3), BINS) for side in box.normalized)


_NUMBER = r"\s*-?[0-9]+\s*"
_FOUR = rf"{_NUMBER}(?:,{_NUMBER}){{3}}"
_LOCATION = r"(?:<box>|<loc_[0-9]+>)"
# No two neighbours here can match the same character, so nothing is tried twice and a search is linear.
_MARK = re.compile(
    rf"\[{_FOUR}(?:;{_FOUR})*\]|{_LOCATION}(?:\s*{_LOCATION})*"
    r"|</?(?:phrase|box|s|unk|pad|image|object|region|region_fea)>|<\|\w{1,40}\|>"
)
_JOINERS = ("", ",", ";", "&", "and", ", and")


class _CleanText:
    """Text written piece by piece, with single spaces and none before a mark where something was cut out."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.length = 0
        self.cut = False
        self._gap = ""

    def write(self, piece: str) -> None:
        lines = [" ".join(line.split()) for line in piece.split("\n")]
        body = "\n".join(line for line in lines if line)
        if "\n" in piece[: len(piece) - len(piece.lstrip())] or (not body and "\n" in piece):
            self._gap = "\n"
        elif piece[:1].isspace():
            self._gap = self._gap or " "
        if not body:
            return
        if not self.parts or (self.cut and body[0] in ".,;:!?)"):
            self._gap = ""
        elif self.cut and not self._gap and self.parts[-1][-1].isalnum() and body[0].isalnum():
            self._gap = " "
        self.parts.append(self._gap + body)
        self.length += len(self.parts[-1])
        self.cut, trailing = False, piece[len(piece.rstrip()) :]
        self._gap = "\n" if "\n" in trailing else trailing[:1] and " "

    def phrase_span(self, segment: int, marked: int | None) -> tuple[int, int]:
        """Span of the phrase at the end: all since part `marked`, or the last noun phrase since `segment`."""
        words = "".join(self.parts[segment if marked is None else marked :])
        start, end = (
            last_noun_phrase(words) if marked is None else (len(words) - len(words.lstrip()), len(words))
        )
        return self.length - len(words) + start, self.length - len(words) + end


def _read_boxes(mark: str) -> list[BoxBins]:
    if mark[0] == "[":
        groups = [[_read_bin(number) for number in four.split(",")] for four in mark[1:-1].split(";")]
    elif mark.startswith(("<box>", "<loc_")):
        runs = [[_read_bin(number) for number in re.findall("[0-9]+", run)] for run in mark.split("<box>")]
        groups = [run[start : start + 4] for run in runs for start in range(0, len(run) - 3, 4)]
    else:
        groups = []
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in groups]


def _read_bin(digits: str) -> int:
    """A whole number of any length, clipped to one beyond 0..999 (`int` takes quadratic time)."""
    bare = digits.strip()
    if bare[0] == "-":
        return 0
    significant = bare.lstrip("0")
    return int(significant or "0") if len(significant) <= 4 else 9999


def _read_mention(form: Mapping[str, Any]) -> Mention:
    start, end = form["span"]
    return Mention(
        str(form["phrase"]), (int(start), int(end)), tuple(_read_box(box) for box in form["boxes"])
    )


def _read_box(form: Mapping[str, Any]) -> LocatedBox:
    score = form.get("score")
    return LocatedBox(
        _four_floats(form["pixels"]),
        _four_floats(form["normalized"]),
        None if score is None else float(score),
    )


def _four_floats(numbers: Sequence[Any]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(number) for number in numbers)
    return x1, y1, x2, y2
