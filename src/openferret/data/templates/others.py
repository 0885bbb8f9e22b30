"""Samples of expressions, of questions with answers, and of dialogues that a source brings along."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from openferret.data.records import AnnotatedObject
from openferret.data.schema import Sample
from openferret.data.templates.drafts import Draft, clean
from openferret.data.templates.page import Page
from openferret.data.words.english import lower_first, sentence, with_the
from openferret.nouns import PREPOSITIONS


def write_expressions(page: Page) -> Iterator[Sample]:
    """Where is the one that these words mean?"""
    for number, expression in enumerate(page.record.expressions):
        text = clean(expression.text).strip(" .,")
        if not text:
            continue
        draft = page.draft("expression", expression.id or str(number))
        said = lower_first(text)
        if said.split(" ", 1)[0] not in PREPOSITIONS:
            said = with_the(said)
        thing = page.record.objects[expression.object]
        words = {"phrase": said, "grounded": draft.ground(said, [thing.box])}
        yield draft.write(page.templates, "expression", words)


def write_questions(page: Page) -> Iterator[Sample]:
    """A source's own questions and answers; things that both name are pointed at, or get their boxes."""
    for number, one in enumerate(page.record.questions):
        draft = page.draft("question_answer", one.id or str(number))
        objects = page.record.objects
        question, answer = clean(one.question), clean(one.answer)
        if draft.chance.random() < 0.5:
            question = _pointed(question, [objects[place] for place in one.question_objects], draft)
        answer = _grounded(answer, [objects[place] for place in one.answer_objects], draft)
        if question and answer:
            yield draft.sample(sentence(question), sentence(answer), "question_answer")


def write_dialogues(page: Page) -> Iterator[Sample]:
    """A source's own conversations, as they are."""
    for number, dialogue in enumerate(page.record.dialogues):
        if dialogue.turns:
            draft = page.draft("dialogue", dialogue.id or str(number))
            yield draft.conversation(dialogue.turns, "dialogue", "source")


def _pointed(text: str, things: Sequence[AnnotatedObject], draft: Draft) -> str:
    for thing in things:
        place = _place(text, thing)
        if place is not None and "<region:" not in text:
            text = f"{text[:place]} {draft.point(thing.box, thing.outline)}{text[place:]}"
    return text


def _grounded(text: str, things: Sequence[AnnotatedObject], draft: Draft) -> str:
    for thing in things:
        match = _match(text, thing)
        if match is not None and "<box:" not in text:
            text = text[: match.start()] + draft.ground(match.group(), [thing.box]) + text[match.end() :]
    return text


def _place(text: str, thing: AnnotatedObject) -> int | None:
    match = _match(text, thing)
    return None if match is None else match.end()


def _match(text: str, thing: AnnotatedObject) -> re.Match[str] | None:
    """Where a text names a thing, with its article."""
    names = "|".join(re.escape(clean(name)) for name in sorted(thing.names, key=len, reverse=True))
    return re.search(rf"(?:\b(?:an?|the)\s+)?\b(?:{names})\b", text, re.IGNORECASE)
