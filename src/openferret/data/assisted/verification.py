"""Whether a dialogue that a language model wrote is true to what it was told; repaired where that is certain.

Every box must be one of the context's or overlap one, and every phrase with a box must be able to mean what is in
it. What cannot be read, or is cut off, is repaired or rejected, always with a reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openferret.data.assisted.context import Context, Numbers, Spot, numbers_text
from openferret.data.marks import escape_marks
from openferret.data.schema import Turn
from openferret.data.templates.drafts import Draft
from openferret.data.words.lexicon import Lexicon
from openferret.errors import OpenFerretError
from openferret.eval.files import sound_unicode
from openferret.eval.metrics.boxes import intersection_over_union
from openferret.phrases import last_noun_phrase
from openferret.prompts import IMAGE_TOKEN

_LONGEST = 20_000  # characters of a dialogue
_MOST_TURNS = 12
_LEAST_OVERLAP = 0.5
_SAME = 0.0015  # of a number: it was copied
_SPEAKER = re.compile(
    r"^[\s*#>-]{0,8}(question|answer|q|a|user|assistant|human|gpt)\s{0,2}\d{0,2}[\s*]{0,4}:[\s*]{0,4}",
    re.IGNORECASE | re.MULTILINE,
)
_ASKS = {"question", "q", "user", "human"}
_BRACKETS = re.compile(r"\[([^\[\]]{0,400})\]")
_JOINER = re.compile(r"[\s,;&]*(?:and\s*)?")
_TELLS = re.compile(
    r"\b(?:objects? \d+\b|(?:the|given|provided) (?:context|coordinates|bounding box|annotations?|captions?)|"
    r"region descriptions?|as an ai)",
    re.IGNORECASE,
)
_ANYTHING = frozenset(
    "object objects item items thing things region area one ones it part animal person figure".split()  # noqa: SIM905
)


class Rejected(OpenFerretError):  # noqa: N818 (a verdict, not a mistake)
    """A dialogue that is not used.

    Args:
        kind: of the reason, to be counted: format, box, phrase or content.
        reason: in a sentence.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True)
class Verified:
    """A dialogue that holds; its regions are numbered in the draft it was checked with.

    Args:
        turns: with marks in the place of numbers.
        repairs: what was changed, a few words each.
    """

    turns: tuple[Turn, ...]
    repairs: tuple[str, ...]


def verify_dialogue(
    text: str, context: Context, draft: Draft, lexicon: Lexicon, finished: bool = True
) -> Verified:
    """Checks a dialogue against what its writer was told.

    Args:
        text: as the model wrote it.
        context: what the model was told.
        draft: of the sample; it gets the regions.
        lexicon: what words may mean.
        finished: False if the model was cut off; its last answer is then left out.

    Raises:
        Rejected: with the reason.
    """
    repairs: list[str] = []
    pairs = _read_pairs(text, finished, repairs)
    turns: list[Turn] = []
    for question, answer in pairs:
        for words in (question, answer):
            told = _TELLS.search(words)
            if told:
                raise Rejected("content", f"it speaks of what it was told: {told.group()!r}")
            if IMAGE_TOKEN in words:  # it would stand for the picture in a training
                raise Rejected("content", f"it has {IMAGE_TOKEN}, which is no word")
        asked = _marked(question, context, draft, lexicon, False, repairs)
        said = _marked(answer, context, draft, lexicon, True, repairs)
        turns += [Turn("user", asked), Turn("assistant", said)]
    if not any("<box:" in turn.text or "<region:" in turn.text for turn in turns):
        raise Rejected("content", "it has no box at all")
    return Verified(tuple(turns), tuple(dict.fromkeys(repairs)))


def _read_pairs(text: str, finished: bool, repairs: list[str]) -> list[tuple[str, str]]:
    if len(text) > _LONGEST:
        raise Rejected("format", f"it is longer than {_LONGEST} characters")
    said = _without_fence(text)
    pairs = _from_json(said)
    if pairs is not None:
        repairs.append("read from JSON")
    else:
        pairs = _from_lines(said)
    if not finished and pairs:
        repairs.append("the last answer was cut off and left out")
        pairs = pairs[:-1]
    if not pairs:
        raise Rejected("format", "it has no question with an answer")
    if len(pairs) > _MOST_TURNS:
        raise Rejected("format", f"it has more than {_MOST_TURNS} questions")
    if not all(question and answer for question, answer in pairs):
        raise Rejected("format", "a question or an answer is empty")
    return pairs


def _without_fence(text: str) -> str:
    match = re.search(r"```[a-z]{0,12}\n(.*?)```", text, re.DOTALL)
    return (match.group(1) if match else text).strip()


def _from_json(text: str) -> list[tuple[str, str]] | None:
    if not text.startswith(("[{", "[\n", "[ ", "{")):
        return None
    try:
        content = sound_unicode(json.loads(text))  # half characters can be written in JSON, and in no file
        if isinstance(content, dict):
            content = next(value for value in content.values() if isinstance(value, list))
        return [(str(one["question"]).strip(), str(one["answer"]).strip()) for one in content]
    except (ValueError, KeyError, TypeError, StopIteration, RecursionError):
        return None


def _from_lines(text: str) -> list[tuple[str, str]]:
    found = list(_SPEAKER.finditer(text))
    turns = []
    for number, match in enumerate(found):
        end = found[number + 1].start() if number + 1 < len(found) else len(text)
        turns.append((match.group(1).lower() in _ASKS, " ".join(text[match.end() : end].split()).strip("* ")))
    if turns and turns[-1][0]:  # a question without its answer
        turns.pop()
    if [asks for asks, _ in turns] != [number % 2 == 0 for number in range(len(turns))]:
        raise Rejected("format", "questions and answers do not alternate")
    return [(turns[at][1], turns[at + 1][1]) for at in range(0, len(turns), 2)]


def _marked(
    text: str, context: Context, draft: Draft, lexicon: Lexicon, answer: bool, repairs: list[str]
) -> str:
    """A turn with marks in the place of its boxes."""
    pieces: list[str] = []
    end = 0
    for start, stop, boxes in _box_groups(text, repairs):
        before = text[end:start].rstrip()
        first, last = last_noun_phrase(before)
        phrase = before[first:last]
        if not phrase and answer:
            raise Rejected("phrase", f"the box {numbers_text(boxes[0])} follows no phrase")
        if not answer and not any(lexicon.noun(word) for word in phrase.split()):
            phrase = ""  # "What is at [..]" names nothing
        spots = [_spot_of(numbers, phrase, context, lexicon, repairs) for numbers in boxes]
        if answer:
            # Words between the phrase and its box ("the dog is at [..]") keep it from being marked.
            lead, words = escape_marks(before[:first]), escape_marks(before[first:])
            grounded = draft.ground(words, [spot.box for spot in spots])
            pieces += [lead, grounded if last == len(before) else grounded.removeprefix("<phrase>")]
        else:
            gap = " " if before else ""
            marks = " ".join(draft.point(spot.box) for spot in spots)
            pieces += [escape_marks(before), gap, marks]
        end = stop
    rest = text[end:]
    if "[" in rest or "]" in rest:
        raise Rejected("format", "it has a bracket that belongs to no box")
    return "".join([*pieces, escape_marks(rest)]).strip()


def _box_groups(text: str, repairs: list[str]) -> Iterator[tuple[int, int, list[Numbers]]]:
    """Runs of boxes that follow each other, with where they begin and end."""
    start = stop = -1
    boxes: list[Numbers] = []
    for match in _BRACKETS.finditer(text):
        found = [_read_box(part, repairs) for part in match.group(1).split(";")]
        if boxes and _JOINER.fullmatch(text, stop, match.start()):
            boxes += found
        else:
            if boxes:
                yield start, stop, boxes
            start, boxes = match.start(), found
        stop = match.end()
    if boxes:
        yield start, stop, boxes


def _read_box(text: str, repairs: list[str]) -> Numbers:
    parts = [part.strip() for part in text.split(",")]
    try:
        if any(not re.fullmatch(r"-?[0-9]{0,6}(?:\.[0-9]{1,12})?", part) or not part for part in parts):
            raise ValueError
        numbers = [float(part) for part in parts]
    except ValueError:
        raise Rejected("format", f"[{text[:40]}] is not a box") from None
    if len(numbers) != 4:
        raise Rejected("format", f"[{text[:40]}] has {len(numbers)} numbers, but a box has 4")
    if max(numbers) > 1 and all(number == int(number) for number in numbers):
        repairs.append("thousandths were taken as such")
        numbers = [number / 1000 for number in numbers]
    if min(numbers) < 0 or max(numbers) > 1:
        raise Rejected("box", f"[{text[:40]}] lies outside the picture")
    x1, y1, x2, y2 = numbers
    if x1 > x2 or y1 > y2:
        repairs.append("corners of a box were put in order")
    x1, y1, x2, y2 = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
    if x1 == x2 or y1 == y2:
        raise Rejected("box", f"[{text[:40]}] has no area")
    return x1, y1, x2, y2


def _spot_of(numbers: Numbers, phrase: str, context: Context, lexicon: Lexicon, repairs: list[str]) -> Spot:
    """The place of the context that a box means."""
    overlaps = sorted(
        (-intersection_over_union(numbers, spot.numbers), place) for place, spot in enumerate(context.spots)
    )
    near = [context.spots[place] for overlap, place in overlaps if -overlap >= _LEAST_OVERLAP]
    if not near:
        raise Rejected("box", f"nothing that it was told of is at {numbers_text(numbers)}")
    fitting = [spot for spot in near if not phrase or _may_mean(phrase, spot.names, lexicon)]
    if not fitting:
        raise Rejected("phrase", f"{phrase[:60]!r} stands before the box of {near[0].names[0][:60]!r}")
    if max(abs(one - other) for one, other in zip(numbers, fitting[0].numbers, strict=True)) > _SAME:
        repairs.append("a box was moved to the nearest that was told")
    return fitting[0]


def _may_mean(phrase: str, names: Sequence[str], lexicon: Lexicon) -> bool:
    words = {lexicon.word(word) for word in phrase.lower().split()}
    if words & _ANYTHING:
        return True
    for name in names:
        said = {lexicon.word(word) for word in name.lower().split() if len(word) > 2}
        if words & said or lexicon.may_be(phrase, name):
            return True
    return False
