"""Samples of annotated objects, relationships and descriptions: region in, text out, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from openferret.data.records import AnnotatedObject
from openferret.data.schema import Sample
from openferret.data.templates.drafts import Draft, clean
from openferret.data.templates.page import Page
from openferret.data.things import Things
from openferret.data.words.english import (
    counted,
    is_or_are,
    is_plural,
    listing,
    plural,
    with_article,
    with_the,
)
from openferret.data.words.predicates import Clause, object_phrase, read_predicate, statement
from openferret.regions import Box

_MOST_BOXES = 20  # of a phrase: a person asked for more would say "many"
_AT_ONCE = 4  # regions of one question


def write_objects(page: Page) -> Iterator[Sample]:
    """What is this? One sample for each object, and one for several together."""
    objects = [one for one in page.record.objects if not one.is_crowd]
    for number, thing in _numbered(objects):
        draft = page.draft("object", number)
        name, many = clean(thing.name), is_plural(thing.name)
        words = {
            "region": draft.point(thing.box, thing.outline),
            "name": with_article(name),
            "it_is": "they are" if many else "it is",
            "this_is": "these are" if many else "this is",
        }
        yield draft.write(page.templates, "object", words)
    different = {thing.box: thing for thing in objects}
    if len(different) > 1:
        draft = page.draft("object", "several")
        count = min(draft.chance.randint(2, _AT_ONCE), len(different))
        chosen = draft.chance.sample(list(different.values()), count)
        words = {
            "regions": listing([draft.point(thing.box, thing.outline) for thing in chosen]),
            "names": listing([with_article(clean(thing.name)) for thing in chosen]),
        }
        yield draft.write(page.templates, "objects", words)


def write_attributes(page: Page) -> Iterator[Sample]:
    """What is it like? Its colour alone where only that is known."""
    colours = set(page.lexicon.groups["colours"])
    for number, thing in _numbered(page.record.objects):
        stated = [clean(word.lower()) for word in thing.attributes if _describes(word, page)]
        if not stated or thing.is_crowd:
            continue
        draft = page.draft("attribute", number)
        name = clean(thing.name)
        words = {
            "region": draft.point(thing.box, thing.outline),
            "noun": with_the(name),
            "is": is_or_are(name),
        }
        if set(stated) <= colours:
            yield draft.write(page.templates, "colour", words | {"colour": listing(stated)})
        else:
            yield draft.write(page.templates, "attribute", words | {"attributes": listing(stated)})


def write_relationships(page: Page) -> Iterator[Sample]:
    """How do two regions relate? Or, where that has one answer, what the one is riding, on, holding..."""
    answers = _unique_answers(page)
    for number, relation in enumerate(page.record.relationships):
        subject, thing = (page.record.objects[place] for place in (relation.subject, relation.object))
        clause = read_predicate(clean(subject.name), relation.predicate)
        if clause is None or subject.box == thing.box:
            continue
        draft = page.draft("relationship", relation.id or str(number))
        if (relation.subject, relation.predicate) in answers and draft.chance.random() < 0.5:
            yield _ask_for_object(page, draft, subject, clause, thing)
            continue
        words = {
            "first": draft.point(subject.box, subject.outline),
            "second": draft.point(thing.box, thing.outline),
            "statement": statement(clean(subject.name), clause, clean(thing.name)),
        }
        yield draft.write(page.templates, "relationship", words)


def write_descriptions(page: Page) -> Iterator[Sample]:
    """What does this region show? And the way back, for descriptions that name one thing."""
    for number, description in enumerate(page.record.descriptions):
        text = clean(description.text).rstrip(" .")
        if not text:
            continue
        key = description.id or str(number)
        draft = page.draft("description", key)
        words = {"region": draft.point(description.box), "text": text}
        yield draft.write(page.templates, "description", words)


def write_instances(page: Page) -> Iterator[Sample]:
    """Where are all the dogs? Only for what a source looked for, and of which it annotated every one."""
    if page.record.vocabulary is None or not page.record.vocabulary.instances:
        return
    unsure = {*page.record.not_exhaustive, *page.things.crowds}
    for name, boxes in page.things.boxes_by_name.items():
        if name in unsure or len(boxes) > _MOST_BOXES:
            continue
        draft = page.draft("all_instances", name)
        word = clean(name)
        phrase = counted(word, len(boxes))
        words = {
            "plural": plural(word),
            "noun": word,
            "grounded": draft.ground(phrase, boxes),
            "there_is": f"there {is_or_are(phrase)}",
        }
        without = "noun" if is_plural(word) else ""
        yield draft.write(page.templates, "all_instances", words, ask_without=without)


def named_boxes(name: str, things: Things) -> tuple[str, Sequence[Box]]:
    """A phrase for all objects of a name, and their boxes; it counts only where all are annotated."""
    boxes = things.boxes_by_name[name]
    record = things.record
    known = record.vocabulary is not None and record.vocabulary.instances
    sure = known and name not in {*record.not_exhaustive, *things.crowds}
    word = clean(name)
    if sure or len(boxes) == 1:
        return counted(word, len(boxes)), boxes
    return plural(word), boxes


def _ask_for_object(
    page: Page, draft: Draft, subject: AnnotatedObject, clause: Clause, thing: AnnotatedObject
) -> Sample:
    who = "who" if page.lexicon.is_person(thing.name) else "what"
    phrase = object_phrase(clean(subject.name), clause, clean(thing.name))
    words = {"question": f"{who} {clause.question}", "grounded": draft.ground(phrase, [thing.box])}
    return draft.write(page.templates, "related_object", words)


def _unique_answers(page: Page) -> set[tuple[int, str]]:
    """Subjects of a name that only one thing has, with predicates that lead to one thing only."""
    names: dict[str, set[Box]] = {}
    for thing in page.record.objects:
        for name in thing.names:
            names.setdefault(name, set()).add(thing.box)
    leads: dict[tuple[int, str], set[int]] = {}
    for relation in page.record.relationships:
        leads.setdefault((relation.subject, relation.predicate), set()).add(relation.object)
    return {
        key
        for key, objects in leads.items()
        if len(objects) == 1 and len(names[page.record.objects[key[0]].name]) == 1
    }


def _describes(attribute: str, page: Page) -> bool:
    """Whether an attribute can follow "is": "red" and "parked", not "data line"."""
    words = attribute.lower().split()
    if not words or len(attribute) > 40 or not all(word.replace("-", "").isalpha() for word in words):
        return False
    known = (
        any(words[-1] in group for group in page.lexicon.groups.values())
        or words[-1] in page.lexicon.opposites
    )
    return known or page.lexicon.noun(attribute) is None


def _numbered(objects: Sequence[AnnotatedObject]) -> Iterator[tuple[str, AnnotatedObject]]:
    """Objects with keys that are unique: the source's id, or their place where that is missing or used twice."""
    seen: set[str] = set()
    for place, thing in enumerate(objects):
        key = thing.id if thing.id and thing.id not in seen else f"#{place}"
        seen.add(key)
        yield key, thing
