"""A record -> samples, for every task of the paper (arXiv 2310.07704, section 4.1), worded by templates.

Each choice depends on the seed and on the sample's id alone: who writes a record, when, and beside which others
makes no difference.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from openferret.checks import shorten
from openferret.data.negatives.mining import Analogies, TableAnalogies
from openferret.data.records import Record
from openferret.data.schema import Sample
from openferret.data.templates.captions import write_caption_relations, write_captions, write_phrases
from openferret.data.templates.objects import (
    write_attributes,
    write_descriptions,
    write_instances,
    write_objects,
    write_relationships,
)
from openferret.data.templates.others import write_dialogues, write_expressions, write_questions
from openferret.data.templates.page import Page
from openferret.data.templates.phrasings import Templates, load_templates
from openferret.data.templates.presence import write_absent, write_presence
from openferret.data.words.lexicon import Lexicon, load_lexicon
from openferret.errors import InputError

Writing: TypeAlias = Callable[[Page], Iterator[Sample]]

# Writers in the order of their samples, and the tasks that each writes.
_WRITERS: Sequence[tuple[Writing, frozenset[str]]] = (
    (write_objects, frozenset({"object"})),
    (write_attributes, frozenset({"attribute"})),
    (write_relationships, frozenset({"relationship"})),
    (write_caption_relations, frozenset({"relationship"})),
    (write_descriptions, frozenset({"description"})),
    (write_phrases, frozenset({"phrase"})),
    (write_expressions, frozenset({"expression"})),
    (write_instances, frozenset({"all_instances"})),
    (write_absent, frozenset({"phrase", "all_instances"})),
    (write_presence, frozenset({"presence"})),
    (write_captions, frozenset({"grounded_caption"})),
    (write_questions, frozenset({"question_answer"})),
    (write_dialogues, frozenset({"dialogue"})),
)
TASKS: tuple[str, ...] = tuple(sorted(frozenset().union(*(tasks for _, tasks in _WRITERS))))


@dataclass(frozen=True, eq=False)
class WriterSettings:
    """What writing depends on, beside the record.

    Args:
        seed: of every choice.
        negatives: questions about what is absent for one about what is there.
        templates: the wording.
        lexicon: what words mean.
        analogies: names what might have been there instead; the table by default.
    """

    seed: int
    negatives: float
    templates: Templates
    lexicon: Lexicon
    analogies: Analogies


def make_settings(
    seed: int = 0, negatives: float = 1.0, templates: Path | None = None, analogies: Analogies | None = None
) -> WriterSettings:
    """Settings with the files that ship, or with a file of phrasings of one's own.

    Raises:
        InputError: a file of phrasings that cannot be used.
    """
    lexicon = load_lexicon()
    return WriterSettings(
        seed, negatives, load_templates(templates), lexicon, analogies or TableAnalogies(lexicon)
    )


def write_record(
    record: Record, settings: WriterSettings, tasks: Collection[str] | None = None
) -> Iterator[Sample]:
    """Everything a record gives, in a fixed order.

    Args:
        record: of one picture; without a known size only dialogues are written.
        settings: see `make_settings`.
        tasks: of `TASKS`, or None for all.

    Raises:
        InputError: a task that is not known.

    Example:
        >>> from openferret.data.records import AnnotatedObject
        >>> from openferret.data.schema import PictureReference
        >>> from openferret.regions import Box
        >>> dog = AnnotatedObject("7", Box(10, 20, 200, 220), ("dog",))
        >>> record = Record(PictureReference("1.jpg", 640, 480, "mine", "1"), objects=(dog,))
        >>> sample = next(write_record(record, make_settings()))
        >>> sample.task, sample.id
        ('object', 'mine:1:object:7')
    """
    wanted = check_tasks(tasks)
    page = Page(
        record, settings.templates, settings.lexicon, settings.analogies, settings.seed, settings.negatives
    )
    for write, written in _WRITERS:
        if written & wanted and (record.picture.known_size or write is write_dialogues):
            yield from (sample for sample in write(page) if sample.task in wanted)


def check_tasks(tasks: Collection[str] | None) -> frozenset[str]:
    """The tasks as a set, all of them for None; InputError for one that is not known, with the nearest that is."""
    if tasks is None:
        return frozenset(TASKS)
    for task in tasks:
        if task not in TASKS:
            near = difflib.get_close_matches(task, TASKS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(TASKS)}"
            raise InputError(f"there is no task {shorten(repr(task))}; {hint}")
    return frozenset(tasks)
