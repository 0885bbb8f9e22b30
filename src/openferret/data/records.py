"""What a source says about one picture: things, relations, descriptions, captions, questions, expressions.

A reader of `openferret.data.sources` yields one `Record` a picture; templates make samples of it. Boxes are in
pixels of the upright picture, lie within it and have an area: readers see to that. Indices point into
`Record.objects`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from openferret.data.outlines import Outline
from openferret.data.schema import PictureReference, Turn
from openferret.regions import Box


@dataclass(frozen=True, slots=True)
class Category:
    """A class of a vocabulary.

    Args:
        id: in its source.
        name: as a person says it: "wine glass".
        synonyms: other names of the same.
        synset: of WordNet, as "dog.n.01", or "".
        ancestors: broader names that the source gives, as COCO's supercategory.
        frequency: of LVIS, "r", "c" or "f", or "".
    """

    id: int
    name: str
    synonyms: tuple[str, ...] = ()
    synset: str = ""
    ancestors: tuple[str, ...] = ()
    frequency: str = ""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The classes that a source looked for; one object shared by all its records.

    Args:
        categories: all of them.
        exhaustive: whether each picture was searched for all of them, so that what is not annotated is absent.
            Not so for LVIS (see `Record.absent`) nor for words freely chosen (Visual Genome).
        instances: whether of a category that a picture has every instance is annotated, but for
            `Record.not_exhaustive`: then "all of them" and how many there are is known.
    """

    categories: tuple[Category, ...]
    exhaustive: bool
    instances: bool = True


@dataclass(frozen=True, slots=True)
class AnnotatedObject:
    """A thing on the picture.

    Args:
        id: in its source, or "".
        box: in pixels.
        names: what it is called, the usual name first; at least one.
        attributes: as "red", "tall".
        synset: of WordNet, as "dog.n.01", or "".
        outline: its shape, if known; `openferret.data.outlines.outline_runs` makes run lengths of any.
        is_crowd: whether it is a group marked as one.
    """

    id: str
    box: Box
    names: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    synset: str = ""
    outline: Outline | None = None
    is_crowd: bool = False

    @property
    def name(self) -> str:
        """Its usual name."""
        return self.names[0]


@dataclass(frozen=True, slots=True)
class Relationship:
    """Subject, predicate, object: "man" (index 3) "riding" "bike" (index 5)."""

    subject: int
    predicate: str
    object: int
    id: str = ""


@dataclass(frozen=True, slots=True)
class RegionDescription:
    """A part of the picture, in pixels, in words."""

    box: Box
    text: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase of a caption.

    Args:
        text: its words.
        span: in the caption, characters.
        boxes: in pixels; empty if it names nothing that has one.
        kind: as "people" or "scene", or "".
        entity: phrases of one entity, also in other captions of the picture, share it.
    """

    text: str
    span: tuple[int, int]
    boxes: tuple[Box, ...]
    kind: str = ""
    entity: str = ""


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence about the whole picture, and its phrases that are known, in order."""

    text: str
    phrases: tuple[Phrase, ...] = ()
    id: str = ""


@dataclass(frozen=True, slots=True)
class QuestionAnswer:
    """A question about the picture, its answer, and the things they name (indices)."""

    question: str
    answer: str
    question_objects: tuple[int, ...] = ()
    answer_objects: tuple[int, ...] = ()
    id: str = ""


@dataclass(frozen=True, slots=True)
class Expression:
    """Words that mean one thing of the picture and no other (an index)."""

    text: str
    object: int
    id: str = ""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation about the picture, without boxes; words in it are escaped (`openferret.data.marks`)."""

    turns: tuple[Turn, ...]
    id: str = ""


@dataclass(frozen=True)
class Record:
    """All that a source says about one picture.

    Args:
        picture: the picture; `picture.source` names the source, `picture.id` the record.
        licence: of the annotation.
        objects: things with boxes.
        relationships: between objects.
        descriptions: of parts of the picture.
        captions: of the picture.
        questions: with answers.
        expressions: each of one object.
        dialogues: about the picture.
        vocabulary: what was looked for, or None for words freely chosen.
        absent: names of categories that are known not to be on the picture (LVIS's negative list).
        not_exhaustive: names on the picture of which not every instance is annotated: the source says so, or a box
            could not be used.
        split: of the source, as "train", or "".
    """

    picture: PictureReference
    licence: str = ""
    objects: tuple[AnnotatedObject, ...] = ()
    relationships: tuple[Relationship, ...] = ()
    descriptions: tuple[RegionDescription, ...] = ()
    captions: tuple[Caption, ...] = ()
    questions: tuple[QuestionAnswer, ...] = ()
    expressions: tuple[Expression, ...] = ()
    dialogues: tuple[Dialogue, ...] = ()
    vocabulary: Vocabulary | None = field(default=None, repr=False)
    absent: tuple[str, ...] = ()
    not_exhaustive: tuple[str, ...] = ()
    split: str = ""
