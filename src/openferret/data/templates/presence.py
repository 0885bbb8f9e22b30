"""Is it there? Questions about what is on the picture, and as many about what is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from openferret.data.negatives.mining import Absent, absent_analogies, absent_category
from openferret.data.schema import Sample
from openferret.data.templates.drafts import Draft, chance_of, clean
from openferret.data.templates.objects import named_boxes
from openferret.data.templates.page import Page
from openferret.data.things import can_stand_alone
from openferret.data.words.english import is_or_are, is_plural, lower_first, plural, with_article
from openferret.phrases import without_determiner
from openferret.regions import Box

_EACH = 2  # questions about what is there, for a picture
_MOST_BOXES = 20


def write_presence(page: Page) -> Iterator[Sample]:
    """Yes for some of what is there, with its boxes; no for as many things that are not there."""
    chance = chance_of(page.seed, f"{page.record.picture.source}:{page.record.picture.id}:presence")
    there = _what_is_there(page)
    chance.shuffle(there)
    wanted = page.negatives * min(len(there), _EACH)
    count = int(wanted) + (chance.random() < wanted % 1)
    absent = _what_is_not(page, count, "presence")
    # Without certain negatives, or with few, there are as few positives: the answer must not be guessed.
    share = len(absent) / count if count else 1.0
    for number, (asked, phrase, boxes) in enumerate(there[: max(round(_EACH * share), 1 if absent else 0)]):
        draft = page.draft("presence", f"yes {number}")
        words = {
            "name": with_article(asked),
            "is_there": f"{is_or_are(asked)} there",
            "is": is_or_are(phrase),
            "there_is": f"there {is_or_are(phrase)}",
            "grounded": draft.ground(phrase, boxes),
        }
        yield draft.write(page.templates, "presence", words)
    for number, one in enumerate(absent):
        draft = page.draft("presence", f"no {number}", negative=True)
        yield _deny(page, draft, one, "presence")


def write_absent(page: Page) -> Iterator[Sample]:
    """Where is it? Nowhere: one such question for every other picture, in the words of `phrase` or of a class."""
    for one in _what_is_not(page, 1, "none"):
        section = "all_instances" if one.kind == "category" else "phrase"
        draft = page.draft(section, "none", negative=True)
        if one.kind != "quantity" and draft.chance.random() < 0.5:
            yield _deny(page, draft, one, section)


def _deny(page: Page, draft: Draft, absent: Absent, section: str) -> Sample:
    name = clean(absent.name)
    many = is_plural(name)
    words = {
        "name": with_article(name),
        "noun": name,
        "plural": plural(name),
        "phrase": with_article(name),
        "is": "are" if many else "is",
        "is_there": f"{'are' if many else 'is'} there",
        "there_is": f"there {'are' if many else 'is'}",
    }
    one_of = "noun" if section == "all_instances" and many else ""  # nobody says "every scissors"
    if absent.instead is None or (absent.kind == "category" and draft.chance.random() < 0.4):
        return draft.write(page.templates, section, words, "none", ask_without=one_of)
    phrase, boxes = absent.instead
    if absent.kind == "category":
        phrase, _ = named_boxes(phrase, page.things)
    said = _as_new(phrase)
    words |= {"grounded": draft.ground(said, boxes), "there_is_other": f"there {is_or_are(said)}"}
    # "There are no three dogs" is not said.
    without = "noun" if absent.kind == "quantity" else ""
    return draft.write(page.templates, section, words, "but", without, one_of)


def _what_is_there(page: Page) -> list[tuple[str, str, Sequence[Box]]]:
    """What may be asked for, the phrase that answers, and its boxes."""
    things = page.things
    named = {name: named_boxes(name, things) for name in things.boxes_by_name}
    found: list[tuple[str, str, Sequence[Box]]] = [
        (clean(name), phrase, boxes) for name, (phrase, boxes) in named.items() if len(boxes) <= _MOST_BOXES
    ]
    for entity in things.entities:
        phrase = next((one for one in entity.phrases if can_stand_alone(one) and len(one) < 60), None)
        if phrase is not None and 0 < len(entity.boxes) <= _MOST_BOXES:
            said = _as_new(phrase)
            found.append((said, said, entity.boxes))
    return found


def _what_is_not(page: Page, count: int, purpose: str) -> list[Absent]:
    picture = page.record.picture
    chance = chance_of(page.seed, f"{picture.source}:{picture.id}:absent {purpose}")
    found: dict[str, Absent] = {}
    for _ in range(2 * count):
        one = absent_category(page.things, chance) if len(found) < count else None
        if one is not None:
            found.setdefault(one.name, one)
    if not found and count:
        for one in islice(absent_analogies(page.things, page.analogies, chance), count):
            found.setdefault(one.name, one)
    return list(found.values())[:count]


def _as_new(phrase: str) -> str:
    """A caption's phrase as something said for the first time: "the man" becomes "a man", "his dog" too."""
    text = clean(phrase)
    first = text.split(" ", 1)[0].lower()
    if first in {
        "the",
        "this",
        "that",
        "his",
        "her",
        "their",
        "its",
        "these",
        "those",
        "another",
        "other",
        "one",
    }:
        return with_article(without_determiner(text))
    return with_article(lower_first(text))
