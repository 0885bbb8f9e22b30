"""Samples of a built data set -> exchanges for stage L, about one crop of their picture, in Kit's words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openferret import prompts
from openferret.coordinates import normalize_box
from openferret.data.marks import find_marks, grounded_phrases, plain_text, replace_marks
from openferret.data.schema import Sample, Turn
from openferret.generation.intents import sought_thing
from openferret.phrases import last_noun_phrase
from openferret.processing.processor import escape_text
from openferret.train.stages.dialogues import Bounds, Exchange, grounded, tidy, to_bins
from openferret.train.stages.pictures import WHOLE, Crop, mirror_words
from openferret.train.stages.regions import KINDS, Kind, draw_region

_LEAST_LEFT = 0.5  # of a box within the crop, as for stage L's own exchanges
_AROUND = (
    "\ufdd1"  # a noncharacter, which no text holds: stands around a region's number while words are escaped
)


def exchanges_of(
    sample: Sample, crop: Crop, points: int, generator: np.random.Generator, kinds: Sequence[Kind] = KINDS
) -> list[Exchange]:
    """Each question of a sample with its answer, as the crop shows them.

    Args:
        sample: with a picture of known size; its task is that of the exchanges.
        crop: what is shown of the picture; left and right are swapped in words if it is mirrored.
        points: sampler points of a region.
        generator: decides how regions are drawn.
        kinds: what regions are drawn as.

    Returns:
        Without the questions whose things the crop cuts off, and those of samples without any box unless they say that
        something is not there: what they tell of may lie outside. None of a sample without a picture.

    Example:
        >>> from openferret.data.schema import PictureReference
        >>> from openferret.regions import Box
        >>> turns = (Turn("user", "What is <region:0>?"), Turn("assistant", "<phrase>A cat <box:0>."))
        >>> sample = Sample("1", PictureReference("1.jpg", 100, 100, "mine", "1"), turns, (Box(0, 0, 50, 50),))
        >>> (one,) = exchanges_of(sample, WHOLE, 8, np.random.default_rng(0), ["box"])
        >>> one.question, one.answer
        ('What is <loc_0><loc_0><loc_500><loc_500><region_fea>?', '<phrase>A cat<box><loc_0><loc_0><loc_500><loc_500>.')
    """
    if sample.picture is None or not sample.picture.known_size:
        return []
    whole = (crop.x1, crop.y1, crop.x2, crop.y2) == (WHOLE.x1, WHOLE.y1, WHOLE.x2, WHOLE.y2)
    if not whole and not sample.regions and not sample.negative:
        return []
    boxes = [_placed(sample, index, crop) for index in range(len(sample.regions))]
    found = []
    for question, answer in zip(sample.turns[::2], sample.turns[1::2], strict=True):
        named = {index for turn in (question, answer) for _, index in find_marks(turn.text)}
        if all(boxes[index] is not None for index in named):
            shown = [box or (0.0, 0.0, 0.0, 0.0) for box in boxes]
            asked, regions = _question(question, shown, crop, points, generator, kinds)
            said = _begun_as_kit(plain_text(question.text), _answer(question, answer, shown, crop), sample)
            found.append(Exchange(sample.task, asked, said, regions))
    return found


def _begun_as_kit(question: str, answer: str, sample: Sample) -> str:
    """An answer to "Where is ...?" that begins as Kit's do, where its locator has a say (generation/evidence.py)."""
    sought = sought_thing(question)
    if sought is None or sought.kind != "where":
        return answer
    if sample.negative:
        return prompts.ABSENT
    place = answer.find(prompts.PHRASE_TOKEN)
    return answer[place:] if place >= 0 else answer


def _placed(sample: Sample, index: int, crop: Crop) -> Bounds | None:
    """A region's bounds in 0..1 of the crop; None if too little of it is left."""
    assert sample.picture is not None
    box = normalize_box(sample.box(index), sample.picture.width, sample.picture.height)
    bounds, left = crop.place(box)
    return bounds if left > _LEAST_LEFT else None


def _question(
    turn: Turn,
    boxes: Sequence[Bounds],
    crop: Crop,
    points: int,
    generator: np.random.Generator,
    kinds: Sequence[Kind],
) -> tuple[str, tuple[NDArray[np.float32], ...]]:
    regions: list[NDArray[np.float32]] = []
    drawn: dict[int, tuple[str, NDArray[np.float32]]] = {}
    pieces = replace_marks(turn.text, lambda _, index: f"{_AROUND}{index}{_AROUND}").split(_AROUND)
    for place in range(1, len(pieces), 2):
        index = int(pieces[place])
        if index not in drawn:  # pointed at twice, it is the same stroke
            drawn[index] = _drawn(boxes[index], points, generator, kinds)
        pieces[place], drawing = drawn[index]
        regions.append(drawing)
    pieces[::2] = [_words(piece, crop) for piece in pieces[::2]]
    return "".join(pieces).replace(prompts.IMAGE_TOKEN, "").strip(), tuple(regions)


def _drawn(
    box: Bounds, points: int, generator: np.random.Generator, kinds: Sequence[Kind]
) -> tuple[str, NDArray[np.float32]]:
    kind = kinds[int(generator.integers(len(kinds)))]
    drawing, bounds = draw_region(box, kind, points, generator)
    middle = (*drawing.mean(axis=0).tolist(), 0, 0)
    return prompts.region_text(to_bins(middle)[:2] if kind == "point" else to_bins(bounds)), drawing


def _answer(question: Turn, answer: Turn, boxes: Sequence[Bounds], crop: Crop) -> str:
    plain, pieces, end = plain_text(answer.text), [], 0
    for one in grounded_phrases(answer.text):
        phrase = one.phrase
        if not phrase:  # a box alone is of what was asked for
            asked = plain_text(question.text)
            start, stop = last_noun_phrase(asked)
            phrase = asked[start:stop] or "it"
        pieces.append(_words(plain[end : one.span[0]], crop))
        pieces.append(grounded(_words(phrase, crop), tuple(boxes[index] for index in one.regions)))
        end = one.span[1]
    return tidy("".join([*pieces, _words(plain[end:], crop)]))


def _words(text: str, crop: Crop) -> str:
    said = escape_text(text)
    return mirror_words(said) if crop.mirrored else said
