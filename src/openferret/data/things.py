"""What there is on a picture, as far as a record tells: for each thing all the names it is given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from openferret.data.records import Caption, Record
from openferret.data.words.english import number_of
from openferret.data.words.lexicon import Lexicon
from openferret.nouns import PREPOSITIONS
from openferret.phrases import without_determiner
from openferret.regions import Box

_WORD = re.compile(r"[a-z][a-z'-]+")
_NOT_NAMES = frozenset(
    """
    he she it they them him who which that this these those one ones another other others each something someone
    both all some there his her its their himself herself themselves what two three four five six
    """.split()  # noqa: SIM905 (a list of forty quoted words is harder to read)
)


@dataclass(frozen=True)
class Entity:
    """Something that captions name, in all their words for it.

    Args:
        phrases: all different ones, as written.
        boxes: none if nobody drew any.
        people: whether the source says that it is people, whatever they are called.
    """

    phrases: tuple[str, ...]
    boxes: tuple[Box, ...]
    people: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called."""
        own = sorted({phrase.lower() for phrase in self.phrases})
        return (*own, "person") if self.people else tuple(own)


@dataclass(frozen=True, eq=False)
class Things:
    """What there is on a record's picture.

    Args:
        record: of the picture.
        lexicon: which words are nouns.
    """

    record: Record
    lexicon: Lexicon

    @cached_property
    def entities(self) -> tuple[Entity, ...]:
        """What captions name, by the entity numbers of their phrases."""
        phrases: dict[str, dict[str, None]] = {}
        boxes: dict[str, tuple[Box, ...]] = {}
        people: dict[str, bool] = {}
        for number, caption in enumerate(self.record.captions):
            for place, phrase in enumerate(caption.phrases):
                key = phrase.entity if phrase.entity not in {"", "0"} else f"{number} {place}"
                phrases.setdefault(key, {})[phrase.text] = None
                boxes[key] = boxes.get(key) or phrase.boxes
                people[key] = people.get(key, False) or phrase.kind == "people"
        return tuple(Entity(tuple(words), boxes[key], people[key]) for key, words in phrases.items())

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """For each thing its names: objects, entities, and nouns of captions and descriptions."""
        found: dict[tuple[str, ...], None] = {}
        for thing in self.record.objects:
            found[tuple(name.lower() for name in thing.names)] = None
        found |= dict.fromkeys((name.lower(),) for name in self.record.not_exhaustive)  # there, without a box
        for entity in self.entities:
            found[entity.names] = None
        texts = [caption.text for caption in self.record.captions if not caption.phrases]
        texts += [description.text for description in self.record.descriptions]
        texts += [expression.text for expression in self.record.expressions]
        found |= dict.fromkeys((noun,) for text in texts for noun in self.nouns(text))
        # Of entities without a box in the caption's own words, what no phrase covers is looked at too.
        for caption in self.record.captions:
            found |= dict.fromkeys((noun,) for noun in self._uncovered(caption))
        return tuple(found)

    def nouns(self, text: str) -> list[str]:
        """Nouns of a text, singular, one word or two."""
        words = _WORD.findall(text.lower())
        singles = [self.lexicon.word(word) for word in words if word not in _NOT_NAMES]
        pairs = [f"{one} {self.lexicon.word(two)}" for one, two in pairwise(words)]
        known = [
            word for word in (*singles, *pairs) if word in self.lexicon.nouns or word in self.lexicon.anybody
        ]
        return list(dict.fromkeys(known))

    def is_absent(self, name: str) -> bool:
        """Whether nothing that the record tells of may be called so."""
        return self.lexicon.is_absent(name, self.names)

    @cached_property
    def boxes_by_name(self) -> dict[str, tuple[Box, ...]]:
        """Boxes of objects that are no crowds, by usual name."""
        found: dict[str, list[Box]] = {}
        for thing in self.record.objects:
            if not thing.is_crowd:
                found.setdefault(thing.name, []).append(thing.box)
        return {name: tuple(dict.fromkeys(boxes)) for name, boxes in found.items()}

    @cached_property
    def crowds(self) -> frozenset[str]:
        """Names of which a crowd is marked: nobody knows how many there are."""
        return frozenset(thing.name for thing in self.record.objects if thing.is_crowd)

    def _uncovered(self, caption: Caption) -> list[str]:
        text, end = "", 0
        for phrase in sorted(caption.phrases, key=lambda phrase: phrase.span):
            text += caption.text[end : phrase.span[0]] + " "
            end = max(end, phrase.span[1])
        return self.nouns(text + caption.text[end:]) if caption.phrases else []


def can_stand_alone(phrase: str) -> bool:
    """Whether a phrase of a caption names something by itself: "his dog" does, "it" and "one" do not.

    >>> can_stand_alone("a red ball"), can_stand_alone("They"), can_stand_alone("another")
    (True, False, False)
    """
    words = without_determiner(phrase).split()
    if not words or words[0] in PREPOSITIONS:  # "of the two beds"
        return False
    return words[-1] not in _NOT_NAMES and any(len(word) > 1 for word in words)


def stated_number(phrase: str) -> int | None:
    """The number that a phrase begins with: 2 of "two dogs"; None for none."""
    return number_of(phrase.split(" ", 1)[0])


def same_words(phrases: Sequence[str]) -> bool:
    """Whether any two of the phrases have the same words."""
    return len({phrase.lower() for phrase in phrases}) < len(phrases)
