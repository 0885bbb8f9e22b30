"""Spatial negative mining: what is not on a picture, and what is there instead.

Two ways (arXiv 2310.07704, section 4.3). Image-conditioned: a category of the vocabulary that the picture does
not have. Semantics-conditioned: an entity, attribute or quantity analogous to one that is there, as woman for
man, yellow for blue, three for two; by a table (`openferret.data.words.lexicon`) or by a language model behind the same
interface. A thing is only said to be absent where nothing that is annotated may be called so, and, where a source
did not look for everything, only what would have been told.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from openferret.data.records import Record
from openferret.data.things import Entity, Things, can_stand_alone, stated_number
from openferret.data.words.english import NUMBERS, is_plural, plural
from openferret.data.words.lexicon import Lexicon
from openferret.nouns import singular
from openferret.phrases import without_determiner
from openferret.regions import Box

_TRIES = 24


@dataclass(frozen=True)
class Absent:
    """Something that is not on the picture.

    Args:
        name: singular or plural, without an article: "yellow shirt", "three dogs".
        kind: how it was found: category, entity, attribute or quantity.
        instead: what is there, as a phrase, and its boxes; None if nothing like it is.
    """

    name: str
    kind: str
    instead: tuple[str, tuple[Box, ...]] | None = None


class Analogies(Protocol):
    """Names things that might have been there instead."""

    def of(self, phrase: str) -> Sequence[str]:
        """Phrases like a phrase, each with one thing changed, without articles; the best first."""


@dataclass(frozen=True, eq=False)
class TableAnalogies:
    """From the table that ships: another thing, or the thing with another attribute."""

    lexicon: Lexicon

    def of(self, phrase: str) -> Sequence[str]:
        """Things by hand's rivals and by co-hyponyms, then attributes by group and by antonym.

        >>> from openferret.data.words.lexicon import load_lexicon
        >>> TableAnalogies(load_lexicon()).of("a young man")[:2]
        ['woman', 'old man']
        """
        bare = without_determiner(phrase)
        attributes = [changed for _, _, changed in changed_attributes(bare, self.lexicon)]
        things = [
            plural(one) if is_plural(bare) else one
            for one in self.lexicon.rivals.get(self.lexicon.word(bare), ())
        ]
        return list(dict.fromkeys([*things[:6], *attributes]))


def absent_category(things: Things, chance: random.Random) -> Absent | None:
    """Image-conditioned: a category of the vocabulary that the picture does not have.

    A vocabulary that was looked for exhaustively gives any category that is not annotated; otherwise only those
    that the record names as absent are sure (LVIS's negative list). Half of them are like something that is
    there, which is then named.

    Returns:
        None where nothing is sure, or nothing was found.
    """
    record = things.record
    names = _sure_names(record)
    if not names:
        return None
    present = [name for name in things.boxes_by_name if name not in things.crowds]
    if present and chance.random() < 0.5:
        like = chance.choice(present)
        near = [one for one in things.lexicon.analogous(like) if one in names]
        for name in near[:4]:
            if things.is_absent(name):
                return Absent(name, "category", (like, things.boxes_by_name[like]))
    for _ in range(_TRIES):
        name = names[chance.randrange(len(names))]
        if things.is_absent(name):
            instead = _most_like(name, present, things.lexicon)
            return Absent(name, "category", (instead, things.boxes_by_name[instead]) if instead else None)
    return None


def absent_analogies(things: Things, analogies: Analogies, chance: random.Random) -> Iterator[Absent]:
    """Semantics-conditioned: from what captions name, or from objects with attributes; in a seeded order.

    Args:
        things: what is on the picture.
        analogies: names candidates; each is checked against all that is there.
        chance: decides the order.
    """
    entities = [one for one in things.entities if one.boxes]
    chance.shuffle(entities)
    for entity in entities:
        usable = [phrase for phrase in entity.phrases if can_stand_alone(phrase) and len(phrase) < 60]
        if not usable:
            continue
        phrase = chance.choice(usable)
        found = [
            *_other_things(phrase, entity.boxes, things, analogies),
            *_other_numbers(phrase, entity, things),
        ]
        if found:
            yield chance.choice(found)
    if not entities:
        yield from _other_colours(things, chance)


def changed_attributes(phrase: str, lexicon: Lexicon) -> list[tuple[str, str, str]]:
    """A phrase with another attribute: ("blue", "yellow", "yellow shirt") for "blue shirt", and so on.

    Only adjectives right before the head noun are looked at: a colour, a material, a pattern, or one that has an
    opposite. "Young" in "young boy pedals" is not of the pedals.
    """
    words = phrase.lower().split()
    head = lexicon.word(phrase).split()
    last = next((at for at, word in enumerate(words) if singular(word) == head[-1]), 0) if head else 0
    first = last - len(head) + 1
    while first > 0 and (lexicon.group_of(words[first - 1]) or words[first - 1] in lexicon.opposites):
        first -= 1
    changed = []
    for place, word in enumerate(words[:last]):
        if place < first:
            continue
        group = lexicon.group_of(word)
        if group is not None and group != "numbers":
            others: Sequence[str] = [
                one for one in lexicon.groups[group] if one != word and not lexicon.may_look(one, word)
            ]
        else:
            others = lexicon.opposites.get(word, ())
        changed += [(word, one, " ".join([*words[:place], one, *words[place + 1 :]])) for one in others]
    return changed


def _sure_names(record: Record) -> Sequence[str]:
    """Names of which it is known whether they are there."""
    if record.vocabulary is not None and record.vocabulary.exhaustive:
        # "Not exhaustive" is of instances: the category itself is there, so `is_absent` never takes it.
        return [category.name for category in record.vocabulary.categories]
    return record.absent


def _most_like(name: str, present: Sequence[str], lexicon: Lexicon) -> str | None:
    """What is there that is most like it: under the nearest common meaning; None if nothing is like it."""
    noun = lexicon.noun(name)
    if noun is None:
        return None
    scored = []
    for place, one in enumerate(present):
        other = lexicon.noun(one)
        rival = lexicon.word(one) in lexicon.rivals.get(lexicon.word(name), ())
        shared = len(noun.above & other.above) if other else 0
        if rival or shared:
            scored.append((-shared - 10 * rival, place, one))
    return min(scored)[2] if scored else None


def _other_things(phrase: str, boxes: tuple[Box, ...], things: Things, analogies: Analogies) -> list[Absent]:
    """Candidates that hold: another thing that nothing is, or an attribute that no such thing has."""
    bare = without_determiner(phrase)
    head = things.lexicon.word(bare)
    found = []
    for candidate in analogies.of(phrase):
        if things.lexicon.may_be(candidate, bare):
            if things.lexicon.word(candidate) == head and _attribute_is_new(bare, candidate, head, things):
                found.append(Absent(candidate, "attribute", (phrase, boxes)))
        elif _is_known(candidate, things.lexicon) and things.is_absent(candidate):
            found.append(Absent(candidate, "entity", (phrase, boxes)))
    kinds = {one.kind for one in found}
    # A few of each kind, so that the seventeen other colours of a shirt do not outnumber the one other person.
    return [one for kind in sorted(kinds) for one in [one for one in found if one.kind == kind][:6]]


def _is_known(name: str, lexicon: Lexicon) -> bool:
    """Whether the lexicon can tell what a name means: nobody knows that a word it lacks ("pooch") is no dog."""
    word = lexicon.word(name)
    return word in lexicon.nouns or word in lexicon.rivals or word in lexicon.anybody


def _attribute_is_new(phrase: str, candidate: str, head: str, things: Things) -> bool:
    """Whether nothing that might be such a thing may look so.

    Every other thing of the kind must state an attribute of the group, so that one of unknown colour vetoes.
    """
    old, new = set(phrase.split()), set(candidate.split())
    changed = new - old
    if len(changed) != 1:
        return False
    word = changed.pop()
    lexicon = things.lexicon
    group = lexicon.group_of(word)
    rivals = set(lexicon.groups[group]) if group else {word, *lexicon.opposites.get(word, ())}
    for names in things.names:
        if not any(lexicon.may_be(head, name) for name in names):
            continue
        stated = {one for name in names for one in re.findall(r"[a-z-]+", name)} & rivals
        if not stated or any(lexicon.may_look(word, one) for one in stated):
            return False
    return True


def _other_numbers(phrase: str, entity: Entity, things: Things) -> list[Absent]:
    """More of them than there are, where the phrase counts and as many boxes are drawn."""
    number = stated_number(phrase)
    if number is None or number < 2 or number != len(entity.boxes) or number + 2 >= len(NUMBERS):
        return []
    if any(stated_number(one) not in (None, number) for one in entity.phrases):
        return []  # one caption counts three of them, another four
    rest = phrase.split(" ", 1)[1]
    others = [one for one in things.entities if one is not entity]
    if any(things.lexicon.may_be(rest, other) for one in others for other in one.phrases):
        return []
    return [
        Absent(f"{NUMBERS[number + more]} {rest.lower()}", "quantity", (phrase, entity.boxes))
        for more in (1, 2)
    ]


def _other_colours(things: Things, chance: random.Random) -> Iterator[Absent]:
    """Objects in another colour than the one they are annotated with, where there is one of the name."""
    lexicon = things.lexicon
    objects = [one for one in things.record.objects if one.attributes and not one.is_crowd]
    chance.shuffle(objects)
    for one in objects:
        colours = [word for word in one.attributes if word in lexicon.groups["colours"]]
        alike = [
            other
            for other in things.record.objects
            if other is not one and any(lexicon.may_be(one.name, name) for name in other.names)
        ]
        if len(colours) != 1 or alike:
            continue
        seen = {*one.attributes, *_told_colours(one.name, things)}
        new = [
            colour
            for colour in lexicon.groups["colours"]
            if not any(lexicon.may_look(colour, word) for word in seen)
        ]
        if new:
            yield Absent(
                f"{chance.choice(new)} {one.name}", "attribute", (f"{colours[0]} {one.name}", (one.box,))
            )


def _told_colours(name: str, things: Things) -> Iterator[str]:
    """Colours in descriptions, captions and expressions that speak of such a thing: not every shirt has a box."""
    record, lexicon = things.record, things.lexicon
    texts = [one.text for one in record.descriptions] + [one.text for one in record.captions]
    for text in [*texts, *(one.text for one in record.expressions)]:
        if any(lexicon.may_be(name, noun) for noun in things.nouns(text)):
            words = re.findall(r"[a-z]+", text.lower())
            yield from (word for word in words if word in lexicon.groups["colours"])
