"""What the locator learns: phrase -> place and box, each instance, and whether the phrase is there at all.

The losses of stage T (`openferret.train.stages.trunk`), as sums for the general loop. With a teacher, what the model
knew before is kept: of phrases that nobody annotated, the locator must go on saying what the untouched one says.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from openferret.data.marks import grounded_phrases
from openferret.eval.metrics.boxes import BoxNumbers, hull
from openferret.model.locator import Located, Locator, PhraseEncoder
from openferret.model.modeling import FerretForConditionalGeneration
from openferret.model.pictures import EncodedPictures
from openferret.model.vision import cell_centres
from openferret.nouns import head_noun
from openferret.phrases import with_determiner
from openferret.train.batches.batch import Batch, Row
from openferret.train.objectives.place import place_losses
from openferret.train.stages.losses import focal_loss

NAME = "locator"
PRESENCE = "presence"
MEMORY = "locator-memory"
ABSENT_KEY = "absent"
"""In `Sample.extra`: a phrase that is known not to be on the sample's picture."""
MOST_BOXES = 8
PRESENT, MISSING, REMEMBERED, BLANK = range(4)  # kinds of a phrase in `targets`


@dataclass(frozen=True)
class Memory:
    """What must not be forgotten.

    Attributes:
        teacher: the locator as it was; never trained.
        phrases: to ask it for, such as "a dog".
        each: of each picture and step.
    """

    teacher: Locator
    phrases: tuple[str, ...]
    each: int = 6


@dataclass(frozen=True)
class _Asked:
    """A phrase as it is asked of a picture of the pass."""

    text: str
    picture: int
    merged: bool
    boxes: tuple[BoxNumbers, ...]
    kind: int


class LocatorObjective:
    """Losses `locator`, `presence` and, with a memory, `locator-memory`.

    Phrases are those with boxes in the samples' answers, each asked for merged and for its instances; phrases that
    are not there are the samples' own (`Sample.extra["absent"]`) and those of the pass's other pictures whose head
    noun this picture does not have.

    Args:
        tokenize: words -> ids.
        memory: what must not be forgotten; None for nothing.
        absent_each: phrases of other pictures that a picture is asked for; 0 where their absence is not known.
    """

    name = NAME

    def __init__(
        self, tokenize: Callable[[str], Sequence[int]], memory: Memory | None = None, absent_each: int = 2
    ) -> None:
        self._tokenize = tokenize
        self._memory = memory
        self._absent_each = absent_each

    def prepare(self, rows: Sequence[Row]) -> Mapping[str, Tensor]:
        """Phrases of the pass; there is always at least one.

        Returns:
            `ids` int64 and `mask` bool [P, L], `picture` and `kind` int64 [P], `merged` bool [P], `boxes` float
            [P, 8, 4] in 0..1, `valid` bool [P, 8].
        """
        pictured = [row for row in rows if row.has_picture]
        asked = [one for number, row in enumerate(pictured) for one in self._phrases(number, row, pictured)]
        asked = asked or [_Asked("it", 0, True, (), BLANK)]
        ids = [list(self._tokenize(one.text))[: PhraseEncoder.max_length] or [0] for one in asked]
        length = max(map(len, ids))
        boxes = torch.zeros(len(asked), MOST_BOXES, 4)
        valid = torch.zeros(len(asked), MOST_BOXES, dtype=torch.bool)
        for number, one in enumerate(asked):
            kept = one.boxes[:MOST_BOXES]
            if kept:
                boxes[number, : len(kept)] = torch.tensor(kept)
                valid[number, : len(kept)] = True
        return {
            "ids": torch.tensor([one + [0] * (length - len(one)) for one in ids]),
            "mask": torch.arange(length)[None] < torch.tensor([len(one) for one in ids])[:, None],
            "picture": torch.tensor([one.picture for one in asked]),
            "kind": torch.tensor([one.kind for one in asked]),
            "merged": torch.tensor([one.merged for one in asked]),
            "boxes": boxes,
            "valid": valid,
        }

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Phrases that are there; those that are or are not; those remembered."""
        kinds = batch.targets[NAME]["kind"]
        present, missing, kept = (float((kinds == kind).sum()) for kind in (PRESENT, MISSING, REMEMBERED))
        counts = {NAME: present, PRESENCE: present + missing}
        return counts | ({MEMORY: kept} if self._memory is not None else {})

    def losses(
        self, model: FerretForConditionalGeneration, batch: Batch, seen: EncodedPictures
    ) -> Mapping[str, Tensor]:
        """See `Objective.losses`."""
        targets = batch.targets[NAME]
        kinds, asked = targets["kind"], (targets["picture"], targets["merged"])
        located = model.model.locate(seen, targets["ids"], targets["mask"], *asked)
        present = kinds == PRESENT
        rows, columns = seen.maps[-1].shape[-2:]
        centres = cell_centres(int(rows), int(columns), kinds.device)
        sums = {
            NAME: place_loss(
                _rows_of(located, present),
                targets["boxes"][present],
                targets["valid"][present],
                targets["merged"][present],
                centres,
            ),
            PRESENCE: _presence_loss(located.presence, present, present | (kinds == MISSING)),
        }
        if self._memory is not None:
            chosen = kinds == REMEMBERED
            teacher = self._memory.teacher.to(kinds.device)
            with torch.no_grad():
                words = model.get_input_embeddings()(targets["ids"][chosen]).detach()
                before: Located | None = None
                if len(words):
                    phrases = teacher.phrase(words, targets["mask"][chosen])
                    before = teacher(seen.maps[-1], phrases, *(one[chosen] for one in asked))
            sums[MEMORY] = (
                memory_loss(_rows_of(located, chosen), before)
                if before is not None
                else 0 * located.box.sum()
            )
        # Every batch touches the whole locator, or processes would wait for each other's gradients.
        silent = 0 * (located.box.sum() + located.presence.sum() + located.instance.sum())
        return {name: value + silent for name, value in sums.items()}

    def _phrases(self, number: int, row: Row, pictured: Sequence[Row]) -> list[_Asked]:
        found = _present(row)
        chance = np.random.default_rng(zlib.crc32(row.dialogues[0].sample.id.encode()))
        asked = []
        for text, boxes in found.items():
            asked.append(_Asked(text, number, True, (hull(boxes),), PRESENT))
            asked.append(_Asked(text, number, False, boxes, PRESENT))
        stated = [one.sample.extra.get(ABSENT_KEY) for one in row.dialogues]
        missing = [one for one in stated if isinstance(one, str) and one not in found]
        if self._absent_each and len(pictured) > 1:
            heads = {head_noun(text) for text in found}
            others = sorted(
                {text for row in pictured for text in _present(row) if head_noun(text) not in heads}
            )
            order = chance.permutation(len(others))[: self._absent_each]
            missing += [others[index] for index in order]
        asked += [
            _Asked(text, number, bool(chance.random() < 0.5), (), MISSING) for text in dict.fromkeys(missing)
        ]
        if self._memory is not None:
            choices = self._memory.phrases
            asked += [
                _Asked(choices[index], number, bool(chance.random() < 0.5), (), REMEMBERED)
                for index in chance.integers(0, max(len(choices), 1), self._memory.each if choices else 0)
            ]
        return asked


def _present(row: Row) -> dict[str, tuple[BoxNumbers, ...]]:
    """Phrases with boxes in a row's answers, as `ground` would ask for them, and their boxes in 0..1."""
    width, height = row.size
    found: dict[str, tuple[BoxNumbers, ...]] = {}
    for dialogue in row.dialogues:
        for turn in dialogue.sample.turns[1::2]:
            for one in grounded_phrases(turn.text):
                boxes = [dialogue.sample.box(index) for index in one.regions]
                words = " ".join(one.phrase.split()).lower()
                if words:
                    scaled = [
                        (box.x1 / width, box.y1 / height, box.x2 / width, box.y2 / height) for box in boxes
                    ]
                    found.setdefault(with_determiner(words), tuple(scaled))
    return found


def _rows_of(located: Located, chosen: Tensor) -> Located:
    return Located(**{name: value[chosen] for name, value in vars(located).items()})


def place_loss(located: Located, boxes: Tensor, valid: Tensor, merged: Tensor, centres: Tensor) -> Tensor:
    """The sum over P phrases that are there: their place, the cells' boxes, the box round all, each instance.

    Args:
        located: of the phrases.
        boxes: float [P, M, 4] in 0..1.
        valid: bool [P, M].
        merged: bool [P]; a merged phrase has one box.
        centres: float [T, 2], of the cells.
    """
    if not len(boxes):
        return located.box.sum() * 0
    losses = place_losses(located, boxes, valid, merged, centres)
    inside = losses.inside
    apart = ~merged
    # Normalised by the cells of an instance, as a large thing has many.
    instance = focal_loss(located.instance[apart], inside[apart].float()).sum(-1) / inside[apart].sum(-1)
    around = losses.box.sum() + losses.edge.sum()
    return losses.place.sum() + losses.cell.sum() + 2 * around + 0.5 * instance.sum()


def _presence_loss(logits: Tensor, present: Tensor, asked: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(
        logits[asked], present[asked].to(logits.dtype), reduction="sum"
    )


def memory_loss(located: Located, before: Located) -> Tensor:
    """The sum over phrases of how far the locator has moved: place, boxes where the place is, instances, presence."""
    weight = before.place.softmax(-1)
    place = functional.kl_div(
        located.place.log_softmax(-1), before.place.log_softmax(-1), log_target=True, reduction="sum"
    )
    boxes = (weight[..., None] * (located.boxes - before.boxes).abs()).sum()
    instance = _binary_divergence(located.instance, before.instance)
    presence = _binary_divergence(located.presence, before.presence)
    return place + 4 * boxes + 0.2 * instance + 0.5 * presence


def _binary_divergence(logits: Tensor, before: Tensor) -> Tensor:
    target = before.sigmoid()
    both = functional.binary_cross_entropy_with_logits
    return both(logits, target, reduction="sum") - both(before, target, reduction="sum")
