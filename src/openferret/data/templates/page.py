"""A record on the desk of the writers: what is on the picture, and how to begin a sample about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from openferret.data.negatives.mining import Analogies
from openferret.data.records import Record
from openferret.data.templates.drafts import Draft
from openferret.data.templates.phrasings import Templates
from openferret.data.things import Things
from openferret.data.words.lexicon import Lexicon


@dataclass(frozen=True, eq=False)
class Page:
    """A record and what writing about it needs.

    Args:
        record: of one picture.
        templates: the wording.
        lexicon: what words mean.
        analogies: of negative mining.
        seed: of every choice.
        negatives: questions about what is absent for one about what is there.
    """

    record: Record
    templates: Templates
    lexicon: Lexicon
    analogies: Analogies
    seed: int
    negatives: float

    @cached_property
    def things(self) -> Things:
        """What there is on the picture."""
        return Things(self.record, self.lexicon)

    def draft(self, task: str, key: str, negative: bool = False) -> Draft:
        """Begins a sample."""
        return Draft(self.record, task, key, self.seed, negative)
