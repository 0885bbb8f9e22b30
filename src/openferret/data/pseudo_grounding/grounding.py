"""Boxes for text that has none: noun phrases are found, located on the picture, and their boxes put after them.

This is how GRIT made grounded dialogues of LLaVA-Instruct (arXiv 2310.07704, section 4.2): boxes for the nouns of the
answers. What a detector is unsure of stays plain text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openferret.checks import finite_number, whole_number
from openferret.data.pseudo_grounding.detectors import Detector, Located
from openferret.data.records import Dialogue, Record
from openferret.data.schema import Sample, Turn
from openferret.data.templates.drafts import Draft
from openferret.data.words.chunking import Chunk, noun_phrases
from openferret.data.words.lexicon import Lexicon, load_lexicon
from openferret.errors import InputError
from openferret.eval.metrics.boxes import area, intersection_over_union
from openferret.phrases import without_determiner
from openferret.regions import Box, fit_region

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Grounding:
    """How boxes are chosen.

    Args:
        least: score 0..1 below which a box is not used.
        overlap: intersection over union 0..1 above which the less certain of two boxes of a phrase is left out.
        most: boxes of a phrase that means several; one that means a single thing gets its best box.
        largest: part 0..1 of the picture that a box may cover: one round everything locates nothing.

    Raises:
        InputError: a number out of its range.
    """

    least: float = 0.35
    overlap: float = 0.5
    most: int = 8
    largest: float = 0.95

    def __post_init__(self) -> None:
        for name in ("least", "overlap", "largest"):
            if not 0 <= finite_number(getattr(self, name), name) <= 1:
                raise InputError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        whole_number(self.most, "most", 1)


def ground_dialogue(
    record: Record,
    dialogue: Dialogue,
    image: Image.Image,
    detector: Detector,
    how: Grounding | None = None,
    task: str = "dialogue",
    lexicon: Lexicon | None = None,
) -> Sample | None:
    """A dialogue with boxes after the nouns of its answers.

    Args:
        record: of the picture.
        dialogue: its questions are left as they are.
        image: the picture, upright, RGB, of the size that the record gives.
        detector: finds phrases.
        how: boxes are chosen.
        task: of the sample, as "dialogue", "detail" or "reasoning".
        lexicon: which nouns can be seen; None for the one that ships.

    Returns:
        None if nothing of it was found.

    Raises:
        InputError: a picture of another size than the record's.
    """
    settings, words = how or Grounding(), lexicon or load_lexicon()
    if image.size != (record.picture.width, record.picture.height):
        size = f"{record.picture.width} x {record.picture.height}"
        raise InputError(
            f"{record.picture.file} is {image.width} x {image.height}, but the record says {size}"
        )
    chunks = [
        [*noun_phrases(turn.text, words)] if turn.role == "assistant" else [] for turn in dialogue.turns
    ]
    boxes = locate_phrases([chunk for each in chunks for chunk in each], image, detector, settings)
    if not boxes:
        return None
    draft = _draft(record, dialogue, task)
    turns = [
        Turn(turn.role, insert_boxes(turn.text, each, boxes, draft))
        for turn, each in zip(dialogue.turns, chunks, strict=True)
    ]
    return draft.conversation(turns, "", f"boxes by {detector.name}, score >= {settings.least:g}")


def grounded_id(record: Record, dialogue: Dialogue, task: str) -> str:
    """Of the sample that a dialogue becomes, known before anything is looked for."""
    return _draft(record, dialogue, task).id


def _draft(record: Record, dialogue: Dialogue, task: str) -> Draft:
    return Draft(record, task, f"{dialogue.id or '0'} grounded", 0)


def locate_phrases(
    chunks: Sequence[Chunk], image: Image.Image, detector: Detector, how: Grounding
) -> Mapping[str, tuple[Box, ...]]:
    """Boxes by what phrases name; what was not found is not there.

    Args:
        chunks: each different phrase is looked for once, without its determiner.
        image: upright, RGB.
        detector: finds phrases.
        how: boxes are chosen.
    """
    wanted: dict[str, bool] = {}
    for chunk in chunks:
        wanted[without_determiner(chunk.phrase)] = chunk.plural
    if not wanted:
        return {}
    found: dict[str, tuple[Box, ...]] = {}
    located = detector.locate(image, list(wanted))
    if len(located) != len(wanted):
        raise InputError(f"{detector.name} answered {len(located)} of {len(wanted)} phrases")
    for (phrase, plural), boxes in zip(wanted.items(), located, strict=True):
        chosen = _chosen(boxes, image.size, how)[: how.most if plural else 1]
        if chosen:
            found[phrase] = tuple(chosen)
    return found


def insert_boxes(
    text: str, chunks: Sequence[Chunk], boxes: Mapping[str, tuple[Box, ...]], draft: Draft
) -> str:
    """A text with marks of boxes after its phrases, numbered in the draft.

    Args:
        text: of a turn, its words escaped.
        chunks: its phrases in order.
        boxes: by phrase without its determiner; a phrase that is not there stays as it is.
        draft: of the sample.
    """
    pieces, end = [], 0
    for chunk in chunks:
        where = boxes.get(without_determiner(chunk.phrase))
        if where:
            start, stop = chunk.span
            pieces += [text[end:start], draft.ground(text[start:stop], where)]
            end = stop
    return "".join([*pieces, text[end:]])


def _chosen(located: Sequence[Located], size: tuple[int, int], how: Grounding) -> list[Box]:
    """The boxes that are sure enough, within the picture, and not the same thing twice; the surest first."""
    width, height = size
    kept: list[Box] = []
    for one in sorted(located, key=lambda one: -one.score):
        box, _ = fit_region(one.box, width, height)
        if not one.score >= how.least or not isinstance(box, Box):  # a score that is no number is no score
            continue
        numbers = (box.x1, box.y1, box.x2, box.y2)
        if not 0 < area(numbers) <= how.largest * width * height:
            continue
        if all(
            intersection_over_union(numbers, (other.x1, other.y1, other.x2, other.y2)) <= how.overlap
            for other in kept
        ):
            kept.append(box)
    return kept
