"""Samples of captions whose phrases have boxes: grounded captions, phrases to find, relations between phrases."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from openferret.data.marks import escape_marks
from openferret.data.records import Caption, Phrase
from openferret.data.schema import Sample
from openferret.data.templates.drafts import Draft, clean
from openferret.data.templates.page import Page
from openferret.data.things import can_stand_alone, same_words
from openferret.data.words.english import is_or_are, listing, lower_first, tidy, with_the
from openferret.data.words.predicates import read_predicate
from openferret.regions import Box

_MOST_BOXES = 20
_LINK = 5  # words between two phrases that still belong together
_NO_LINK = frozenset(
    ("and", "or", "but", "while", "as", "with", "the", "a", "an", "is", "are", "that", "who", "which")
)

_VAGUE = frozenset(("in", "with", "of", "for", "at", "by", "to", "from"))  # "what is the man with?"


def write_captions(page: Page) -> Iterator[Sample]:
    """The caption, with a box after each phrase that has one."""
    for number, caption in enumerate(page.record.captions):
        if any(phrase.boxes for phrase in caption.phrases):
            draft = page.draft("grounded_caption", caption.id or str(number))
            words = {"caption": grounded_caption(caption, draft)}
            yield draft.write(page.templates, "grounded_caption", words)


def write_phrases(page: Page) -> Iterator[Sample]:
    """Where is this phrase, or where are these? One question for each caption."""
    for number, caption in enumerate(page.record.captions):
        usable = [one for one in caption.phrases if _can_be_found(one)]
        # "One man" and "another man" are both asked for as "the man".
        if not usable or same_words([with_the(_as_said(one.text)) for one in usable]):
            continue
        draft = page.draft("phrase", f"caption {caption.id or number}")
        if len(usable) > 1 and draft.chance.random() < 0.4:
            count = draft.chance.randint(2, min(4, len(usable)))
            places = sorted(draft.chance.sample(range(len(usable)), count))
            phrases = [(_as_said(usable[place].text), usable[place].boxes) for place in places]
            words = {
                "phrases": listing([text for text, _ in phrases]),
                "grounded": listing([draft.ground(text, boxes) for text, boxes in phrases]),
            }
            yield draft.write(page.templates, "phrases", words)
            continue
        phrase = draft.chance.choice(usable)
        said = with_the(_as_said(phrase.text))
        words = {"phrase": said, "is": is_or_are(said), "grounded": draft.ground(said, phrase.boxes)}
        yield draft.write(page.templates, "phrase", words)


def write_caption_relations(page: Page) -> Iterator[Sample]:
    """How do two phrases of a caption relate? "[a man] riding [a bike]" tells it."""
    seen: set[tuple[Box, Box, str]] = set()
    for number, caption in enumerate(page.record.captions):
        for first, words, second in linked_phrases(caption):
            relation = (first.boxes[0], second.boxes[0], words)
            if relation in seen:
                continue
            seen.add(relation)
            draft = page.draft("relationship", f"caption {caption.id or number} {first.span[0]}")
            yield _related(page, draft, first, words, second)


def linked_phrases(caption: Caption) -> Iterator[tuple[Phrase, str, Phrase]]:
    """Neighbouring phrases of one box each, and the one to five plain words between them.

    Words that only join ("and", "while") or that begin another clause relate nothing. Of three phrases in a row
    only the first two are linked: in "[a man] in [a suit] on [a bike]" nobody knows what is on the bike.
    """
    linked = False
    for first, second in pairwise(caption.phrases):
        between = caption.text[first.span[1] : second.span[0]].split()
        linked = not linked and (
            1 <= len(between) <= _LINK
            and all(word.isalpha() for word in between)
            and between[0].lower() not in _NO_LINK
            and not {"and", "or", "while"} & {word.lower() for word in between}
            and len(first.boxes) == len(second.boxes) == 1
            and first.boxes != second.boxes
            and can_stand_alone(first.text)
            and can_stand_alone(second.text)
            and (not first.entity or first.entity != second.entity)
        )
        if linked:
            yield first, " ".join(between).lower(), second


def grounded_caption(caption: Caption, draft: Draft) -> str:
    """A caption's words with boxes after its phrases."""
    pieces, end = [], 0
    for phrase in sorted(caption.phrases, key=lambda one: one.span):
        start, stop = phrase.span
        if start < end or not phrase.boxes:
            continue
        pieces += [
            escape_marks(caption.text[end:start]),
            draft.ground(clean(caption.text[start:stop]), phrase.boxes),
        ]
        end = stop
    text = tidy("".join([*pieces, escape_marks(caption.text[end:])]))
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _related(page: Page, draft: Draft, first: Phrase, words: str, second: Phrase) -> Sample:
    subject, thing = _as_said(first.text), _as_said(second.text)
    if words == "in" and second.kind == "clothing":
        words = "wearing"
    clause = read_predicate(subject, words)
    said = f"{clean(with_the(subject))} {clause.statement if clause else clean(words)} {thing}"
    if clause is not None and words not in _VAGUE and draft.chance.random() < 0.4:
        who = "who" if second.kind == "people" else "what"
        asked = {"question": f"{who} {clause.question}", "grounded": draft.ground(thing, second.boxes)}
        return draft.write(page.templates, "related_object", asked)
    slots = {
        "first": draft.point(first.boxes[0]),
        "second": draft.point(second.boxes[0]),
        "statement": said,
    }
    return draft.write(page.templates, "relationship", slots)


def _can_be_found(phrase: Phrase) -> bool:
    return 0 < len(phrase.boxes) <= _MOST_BOXES and can_stand_alone(phrase.text) and len(phrase.text) < 100


def _as_said(text: str) -> str:
    return lower_first(clean(text))
