"""A picture in words, for a language model that does not see it.

Objects, relationships, descriptions of regions and captions, in the layout of Ferret-Bench's `context.jsonl`;
boxes are parts of the picture's width and height with three decimals (arXiv 2310.07704, section 4.2).
"""

from __future__ import annotations

from dataclasses import dataclass

from openferret.coordinates import normalize_box
from openferret.data.records import Record
from openferret.data.things import Things, can_stand_alone
from openferret.data.words.english import tidy
from openferret.data.words.lexicon import Lexicon
from openferret.phrases import without_determiner
from openferret.regions import Box

Numbers = tuple[float, float, float, float]
_MOST_OBJECTS = 40
_MOST_RELATIONS = 30
_MOST_DESCRIPTIONS = 10


@dataclass(frozen=True)
class Spot:
    """A place that the model is told of.

    Args:
        box: in pixels.
        numbers: the same, 0..1, with three decimals, as the model is told.
        names: what it is called there.
    """

    box: Box
    numbers: Numbers
    names: tuple[str, ...]


@dataclass(frozen=True)
class Context:
    """What a model is told of a picture.

    Args:
        text: all of it.
        spots: the places in it.
    """

    text: str
    spots: tuple[Spot, ...]


def write_context(record: Record, lexicon: Lexicon) -> Context | None:
    """The context of a picture; None without a known size, or with fewer than two things that have boxes."""
    width, height = record.picture.width, record.picture.height
    if not record.picture.known_size:
        return None

    def spot(box: Box, *names: str) -> Spot:
        x1, y1, x2, y2 = (round(min(max(side, 0.0), 1.0), 3) for side in normalize_box(box, width, height))
        return Spot(box, (x1, y1, x2, y2), names)

    # The box of a crowd is round many: a model that is told of "person" there would write of one.
    single = [place for place, thing in enumerate(record.objects) if not thing.is_crowd]
    kept = sorted(single, key=lambda place: -_area(record.objects[place].box))
    places = {place: number for number, place in enumerate(sorted(kept[:_MOST_OBJECTS]))}
    objects = [spot(record.objects[place].box, *map(tidy, record.objects[place].names)) for place in places]
    if not objects:  # captions whose phrases have boxes tell of things too
        for entity in Things(record, lexicon).entities:
            names = [without_determiner(tidy(one)) for one in entity.phrases if can_stand_alone(one)]
            objects += [spot(box, *names) for box in entity.boxes if names]
        objects = objects[:_MOST_OBJECTS]
    if len(objects) < 2:
        return None
    descriptions = [spot(one.box, tidy(one.text)) for one in record.descriptions[:_MOST_DESCRIPTIONS]]
    lines = ["Objects:"]
    lines += [
        f"Object {number} : {one.names[0]} at {numbers_text(one.numbers)}."
        for number, one in enumerate(objects)
    ]
    lines += ["", "Relationships:"]
    for relation in record.relationships[:_MOST_RELATIONS]:
        if relation.subject in places and relation.object in places:
            subject, thing = places[relation.subject], places[relation.object]
            lines.append(
                f"object {subject} : {objects[subject].names[0]} -> {tidy(relation.predicate)} -> "
                f"object {thing} : {objects[thing].names[0]}."
            )
    lines += ["", "Region Description:"]
    lines += [f"Region Description at {numbers_text(one.numbers)} : {one.names[0]}" for one in descriptions]
    lines += ["", "Global Caption:", *(tidy(caption.text) for caption in record.captions)]
    return Context("\n".join(lines), (*objects, *descriptions))


def numbers_text(numbers: Numbers) -> str:
    """A box as it is written to a model.

    >>> numbers_text((0.1, 0.2, 0.3, 1.0))
    '[0.100, 0.200, 0.300, 1.000]'
    """
    return f"[{', '.join(f'{number:.3f}' for number in numbers)}]"


def _area(box: Box) -> float:
    return (box.x2 - box.x1) * (box.y2 - box.y1)
