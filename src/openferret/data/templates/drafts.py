"""A sample while it is being written: its regions are numbered as they are mentioned, its choices are seeded."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from openferret.data.marks import escape_marks
from openferret.data.outlines import Outline, RunLengths, outline_runs
from openferret.data.records import Record
from openferret.data.schema import Provenance, Sample, Turn
from openferret.data.templates.phrasings import Templates, fill
from openferret.data.words.english import tidy
from openferret.errors import InputError
from openferret.regions import Box

GENERATOR = "templates"
_TV = re.compile(r"\btv(?=s?\b)")  # as COCO writes it


def chance_of(seed: int, name: str) -> random.Random:
    """Choices that depend on a seed and a name alone, not on who chooses first.

    >>> chance_of(0, "a").random() == chance_of(0, "a").random() != chance_of(1, "a").random()
    True
    """
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "little"))


def clean(text: str) -> str:
    """A source's words as they go into a sample: tidy, and never read as marks."""
    return escape_marks(_TV.sub("TV", tidy(text)))


@dataclass
class Draft:
    """One question and its answer about a record's picture.

    Args:
        record: of the picture.
        task: what the sample teaches.
        key: tells it from the picture's other samples of the task.
        seed: of the choices.
        negative: whether the answer says that something is not there.
    """

    record: Record
    task: str
    key: str
    seed: int
    negative: bool = False
    chance: random.Random = field(init=False)
    _regions: dict[Box, int] = field(default_factory=dict)
    _outlines: dict[int, Outline] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chance = chance_of(self.seed, self.id)

    @property
    def id(self) -> str:
        """Of the sample: source, picture, task, key."""
        picture = self.record.picture
        return f"{picture.source}:{picture.id}:{self.task}:{self.key}"

    def point(self, box: Box, outline: Outline | None = None) -> str:
        """The mark of a region that the question points at."""
        index = self._regions.setdefault(box, len(self._regions))
        if outline is not None:
            self._outlines[index] = outline
        return f"<region:{index}>"

    def ground(self, phrase: str, boxes: Sequence[Box]) -> str:
        """A phrase and its boxes, from left to right; there must be one."""
        if not boxes:
            raise InputError(f"the phrase {phrase!r} has no box")
        ordered = sorted(set(boxes), key=lambda box: (box.x1, box.y1, box.x2, box.y2))
        marks = (f"<box:{self._regions.setdefault(box, len(self._regions))}>" for box in ordered)
        return " ".join([f"<phrase>{phrase}", *marks])

    def write(
        self,
        templates: Templates,
        section: str,
        words: Mapping[str, str],
        part: str = "answer",
        without: str = "",
        ask_without: str = "",
    ) -> Sample:
        """The sample, its question and answer worded by one phrasing each.

        Args:
            templates: all phrasings.
            section: of them.
            words: for the slots of both.
            part: of the section that words the answer.
            without: a slot that the answer shall not have.
            ask_without: a slot that the question shall not have.
        """
        asked, ask = templates.choose(section, "ask", self.chance, ask_without)
        said, answer = templates.choose(section, part, self.chance, without)
        return self.sample(fill(asked, **words), fill(said, **words), f"{ask} {answer}")

    def sample(self, question: str, answer: str, template: str = "", generator: str = GENERATOR) -> Sample:
        """The sample, of finished words."""
        return self.conversation((Turn("user", question), Turn("assistant", answer)), template, generator)

    def conversation(self, turns: Sequence[Turn], template: str = "", generator: str = GENERATOR) -> Sample:
        """The sample, of several turns."""
        record = self.record
        masks = [self._runs(index) for index in range(len(self._regions))] if self._outlines else []
        provenance = Provenance(
            record.picture.source, record.licence, f"{self.task} {self.key}", template, generator
        )
        return Sample(
            self.id,
            record.picture,
            tuple(turns),
            tuple(self._regions),
            tuple(masks),
            provenance,
            self.negative,
            self.task,
        )

    def _runs(self, index: int) -> RunLengths | None:
        outline = self._outlines.get(index)
        if outline is None:
            return None
        try:
            return outline_runs(outline, self.record.picture.width, self.record.picture.height)
        except InputError:  # an outline that covers nothing: the box is used
            return None
