"""Questions and answers about one crop of a picture, for stage L."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from openferret import prompts
from openferret.flickr30k import Caption
from openferret.train.stages.classes import Classes, exhaustive
from openferret.train.stages.pictures import Crop, Named, Record, mirror_words
from openferret.train.stages.regions import KINDS, Kind, draw_region

Bounds = tuple[float, float, float, float]

EXISTS = (prompts.EXISTS, prompts.EXISTS_IN_IMAGE, "Is there {phrase}?")
# What the first region does, and where it is, with respect to the second.
DOING = ("What is {region} doing to {region}?", "What is {region} doing with {region}?")
PLACED = ("Where is {region} in relation to {region}?", "Where is {region}, seen from {region}?")
BOTH = (prompts.RELATE, "What is the relation between {region} and {region}?")
PLACES = frozenset(
    """
    above across against along among around at behind below beneath beside between by in inside into near next on
    onto outside over through under underneath upon
    """.split()  # noqa: SIM905 (a list of thirty quoted words is harder to read)
)


@dataclass(frozen=True)
class Exchange:
    """One question, its answer, and the sampler points of the regions in the question, in order."""

    task: str
    question: str
    answer: str
    regions: tuple[NDArray[np.float32], ...] = ()


@dataclass(frozen=True)
class Shown:
    """A named thing as the crop shows it."""

    named: Named
    text: str
    boxes: tuple[Bounds, ...]


@dataclass
class Writer:
    """Writes exchanges for one crop.

    Attributes:
        record: the picture.
        crop: what is shown of it.
        others: records that absent phrases are drawn from.
        points: sampler points in a region.
        generator: source of randomness.
        classes: of pictures on which everything of them is annotated; there, only these are called absent.
    """

    record: Record
    crop: Crop
    others: list[Record]
    points: int
    generator: np.random.Generator
    classes: Classes | None = None
    shown: list[Shown] = field(init=False)

    def __post_init__(self) -> None:
        """Finds what the crop still shows."""
        self.shown = []
        for named in self.record.named:
            placed = [self.crop.place(box) for box in named.boxes]
            if all(left > 0.5 for _, left in placed):
                text = self.words(named.text).lower()
                self.shown.append(Shown(named, text, tuple(box for box, _ in placed)))

    def words(self, text: str) -> str:
        """Left and right as the crop has them."""
        return mirror_words(text) if self.crop.mirrored else text

    def draw(self, box: Bounds, kind: Kind | None = None) -> tuple[str, NDArray[np.float32]]:
        """A region's text and points."""
        kind = kind or KINDS[self.generator.integers(0, 3)]
        points, bounds = draw_region(box, kind, self.points, self.generator)
        middle = (*points.mean(axis=0).tolist(), 0, 0)
        bins = to_bins(middle)[:2] if kind == "point" else to_bins(bounds)
        return prompts.region_text(bins), points

    def pick(self, single: bool = False) -> Shown | None:
        """Something shown; with one box only if `single`."""
        choices = [one for one in self.shown if not single or len(one.boxes) == 1]
        return choices[self.generator.integers(0, len(choices))] if choices else None

    @property
    def counted(self) -> bool:
        """Whether everything of the classes is annotated here, and nothing else is."""
        return self.classes is not None and exhaustive(self.record)

    def absent(self) -> str | None:
        """A class that is not here, or a phrase of another picture that nothing here is called."""
        if self.classes is not None and exhaustive(self.record):
            return self.classes.absent(self.record, self.generator)
        for _ in range(8):
            other = self.others[self.generator.integers(0, len(self.others))]
            if other.named:
                named = other.named[self.generator.integers(0, len(other.named))]
                if named.head not in self.record.heads and not (named.people and self.record.people):
                    return named.text.lower()
        return None

    def refer(self) -> Exchange | None:
        """Region -> phrase."""
        one = self.pick(single=True)
        if one is None:
            return None
        text, points = self.draw(one.boxes[0])
        return Exchange("refer", prompts.REFER.format(region=text), one.text, (points,))

    def choose(self) -> Exchange | None:
        """Which of two: the thing, or another of this picture (hard) or of another (random)."""
        one = self.pick(single=True)
        if one is None:
            return None
        rivals = [other for other in self.shown if other.named.head != one.named.head]
        hard = rivals and self.generator.random() < 0.5
        rival = rivals[self.generator.integers(0, len(rivals))].named.head if hard else None
        if rival is None:
            other = self.others[self.generator.integers(0, len(self.others))]
            if not other.named:
                return None
            rival = other.named[self.generator.integers(0, len(other.named))].head
        if rival == one.named.head:
            return None
        own, rival = with_article(one.named.head), with_article(rival)
        first, second = (own, rival) if self.generator.random() < 0.5 else (rival, own)
        text, points = self.draw(one.boxes[0])
        question = prompts.REFER_CHOICE.format(region=text, first=first, second=second)
        return Exchange("choose", question, own, (points,))

    def ground(self) -> Exchange | None:
        """Phrase -> boxes, or not in the picture."""
        merged = self.generator.random() < 0.5
        template = prompts.GROUND_MERGED if merged else prompts.GROUND
        definite = self.counted and self.generator.random() < 0.5
        phrase, boxes = self.sought()
        if phrase is None:
            return None
        if definite:
            phrase = "the " + phrase.split(" ", 1)[1]
        question = template.format(phrase=phrase)
        if not boxes:
            return Exchange("ground", question, prompts.ABSENT)
        return Exchange("ground", question, grounded(phrase, (hull(boxes),) if merged else boxes))

    def exists(self) -> Exchange | None:
        """Yes, with its boxes, or no."""
        template = EXISTS[self.generator.integers(0, len(EXISTS))]
        phrase, boxes = self.sought()
        if phrase is None:
            return None
        answer = prompts.YES + grounded(phrase, boxes) + "." if boxes else prompts.NO
        return Exchange("exists", template.format(phrase=phrase), answer)

    def sought(self) -> tuple[str | None, tuple[Bounds, ...]]:
        """What is asked for and its boxes: half of the time something that is not there, and has none."""
        if self.generator.random() < 0.5:
            return self.absent(), ()
        if not self.counted:
            one = self.pick()
            return (None, ()) if one is None else (one.text, one.boxes)
        classes: dict[str, list[Bounds]] = {}
        for one in self.shown:
            if len(one.boxes) == 1:
                classes.setdefault(one.text, []).append(one.boxes[0])
        if not classes:
            return None, ()
        name = list(classes)[self.generator.integers(0, len(classes))]
        return name, tuple(classes[name])

    def describe(self) -> Exchange | None:
        """A caption with boxes after its phrases, if the crop still shows them all."""
        if not self.record.captions:
            return None
        caption = self.record.captions[self.generator.integers(0, len(self.record.captions))]
        text, end = "", 0
        for phrase in caption.phrases:
            placed = [self.crop.place(box) for box in phrase.boxes]
            if any(left <= 0.5 for _, left in placed):
                return None
            start, stop = phrase.span
            words = self.words(caption.text[start:stop])
            boxes = tuple(box for box, _ in placed)
            text += self.words(caption.text[end:start]) + (grounded(words, boxes) if boxes else words)
            end = stop
        text += self.words(caption.text[end:])
        return Exchange("describe", prompts.DESCRIBE, tidy(text))

    def relate(self) -> Exchange | None:
        """Two linked phrases of a caption -> how they are linked, asked for in several ways."""
        links = [link for caption in self.record.captions for link in linked(caption)]
        if not links:
            return None
        link = links[self.generator.integers(0, len(links))]
        placed = [self.crop.place(link.first), self.crop.place(link.second)]
        if any(left <= 0.5 for _, left in placed):
            return None
        texts, points = zip(*(self.draw(box) for box, _ in placed), strict=True)
        template, answer = self.relation(link)
        before, between, after = template.split("{region}")
        question = before + texts[0] + between + texts[1] + after
        return Exchange("relate", question, self.words(answer), points)

    def relation(self, link: Link) -> tuple[str, str]:
        """A question about a link and its answer: both phrases, or what the first does or where it is."""
        forms = DOING if link.doing else PLACED if link.placed else ()
        if not forms or self.generator.random() < 0.4:
            return BOTH[self.generator.integers(0, len(BOTH))], f"{link.subject} {link.words} {link.object}"
        return forms[self.generator.integers(0, len(forms))], f"{link.words} {link.object}"


@dataclass(frozen=True)
class Link:
    """Two things of a caption and the words between: "a man", "riding", "a bike".

    Attributes:
        first: where the subject is.
        second: where the object is.
    """

    subject: str
    words: str
    object: str
    first: Bounds
    second: Bounds

    @property
    def doing(self) -> bool:
        """Whether the words tell of an action."""
        return self.words.split()[0].endswith("ing")

    @property
    def placed(self) -> bool:
        """Whether the words tell of a place."""
        return self.words.split()[0] in PLACES


def linked(caption: Caption) -> list[Link]:
    """Neighbouring phrases of one box each with one to five words between: "a man riding a bike"."""
    found = []
    for first, second in zip(caption.phrases, caption.phrases[1:], strict=False):
        between = caption.text[first.span[1] : second.span[0]].split()
        plain = all(word.isalpha() for word in between) and 1 <= len(between) <= 5
        if plain and len(first.boxes) == 1 and len(second.boxes) == 1 and first.entity != second.entity:
            words = " ".join(between).lower()
            found.append(
                Link(first.text.lower(), words, second.text.lower(), first.boxes[0], second.boxes[0])
            )
    return found


def to_bins(box: Bounds) -> tuple[int, ...]:
    """Coordinates in 0..1 -> bins 0..999."""
    return tuple(min(max(int(side * prompts.LOCATION_BINS), 0), prompts.LOCATION_BINS - 1) for side in box)


def grounded(phrase: str, boxes: tuple[Bounds, ...]) -> str:
    """A phrase and its boxes, left to right, in Kit's words."""
    written = ""
    for box in sorted(boxes)[:8]:
        written += prompts.BOX_TOKEN + "".join(prompts.location_token(one) for one in to_bins(box))
    return prompts.PHRASE_TOKEN + phrase + written


def hull(boxes: tuple[Bounds, ...]) -> Bounds:
    """The smallest box around all."""
    sides = list(zip(*boxes, strict=True))
    return min(sides[0]), min(sides[1]), max(sides[2]), max(sides[3])


def with_article(noun: str) -> str:
    """The noun with its article: "dog" becomes "a dog"."""
    return ("an " if noun[:1] in "aeiou" else "a ") + noun


def tidy(text: str) -> str:
    """Joins punctuation to the word before it."""
    for mark in (".", ",", "'s", "!", "?", ";", ":"):
        text = text.replace(f" {mark}", mark)
    return " ".join(text.split())


MIXTURE = (
    ("refer",) * 4 + ("choose",) * 2 + ("ground",) + ("exists",) * 2 + ("describe",) * 4 + ("relate",) * 2
)
# Pictures without captions are neither described nor related; their classes are asked for instead.
COUNTED_MIXTURE = ("refer",) * 5 + ("choose",) * 2 + ("ground",) * 4 + ("exists",) * 4


def write_exchanges(
    record: Record,
    crop: Crop,
    others: list[Record],
    points: int,
    generator: np.random.Generator,
    classes: Classes | None = None,
) -> list[Exchange]:
    """The mixture of tasks for one crop of one picture; nothing for one on which nothing is named."""
    if not record.named:
        return []
    writer = Writer(record, crop, others, points, generator, classes)
    written = [getattr(writer, task)() for task in (COUNTED_MIXTURE if writer.counted else MIXTURE)]
    return [one for one in written if one is not None]
