"""What the namer learns: a named thing's region -> its noun, drawn as a box, a point and a scribble.

With a teacher, what it knew before is kept: regions that the picture's proposals show and nobody named must go on
being called what the untouched namer calls them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from openferret.data.marks import grounded_phrases
from openferret.eval.metrics.boxes import BoxNumbers
from openferret.model.locator import pairwise_iou
from openferret.model.modeling import FerretForConditionalGeneration
from openferret.model.namer import RegionNamer, namer_features
from openferret.model.pictures import EncodedPictures
from openferret.nouns import head_noun
from openferret.phrases import without_determiner
from openferret.processing.geometry import region_geometry
from openferret.train.batches.batch import Batch, Row
from openferret.train.stages.regions import KINDS, draw_region

NAME = "namer"
MEMORY = "namer-memory"
UNKNOWN = -1
_POINTS = 128
_OWN = 0.3  # IoU with a named box from which a proposal is not remembered


class NamerObjective:
    """Losses `namer` and, with a teacher, `namer-memory`.

    Args:
        nouns: what each output of the namer stands for, such as "dog" or "acme logo".
        teacher: the namer as it was, with as many outputs; None if nothing need be remembered.
        most: named boxes of a row that are drawn.
    """

    name = NAME

    def __init__(self, nouns: Sequence[str], teacher: RegionNamer | None = None, most: int = 8) -> None:
        self._places = {noun: place for place, noun in enumerate(nouns)}
        self._teacher = teacher
        self._most = most

    def prepare(self, rows: Sequence[Row]) -> Mapping[str, Tensor]:
        """Regions of the pass; there is always at least one.

        Returns:
            `points` float [R, 128, 2] and `boxes` float [R, 4] in 0..1, `picture` and `noun` int64 [R]; a noun of
            -1 is not learned.
        """
        drawn = list(self._drawn([row for row in rows if row.has_picture]))
        if not drawn:
            drawn = [(np.full((_POINTS, 2), 0.5, np.float32), (0.0, 0.0, 0.0, 0.0), 0, UNKNOWN)]
        points, boxes, pictures, nouns = zip(*drawn, strict=True)
        return {
            "points": torch.from_numpy(np.stack(points)),
            "boxes": torch.tensor(boxes),
            "picture": torch.tensor(pictures),
            "noun": torch.tensor(nouns),
        }

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Named regions; pictures whose proposals are remembered."""
        counts = {NAME: float((batch.targets[NAME]["noun"] != UNKNOWN).sum())}
        return counts | ({MEMORY: float(len(batch.samples))} if self._teacher is not None else {})

    def losses(
        self, model: FerretForConditionalGeneration, batch: Batch, seen: EncodedPictures
    ) -> Mapping[str, Tensor]:
        """See `Objective.losses`."""
        targets, namer = batch.targets[NAME], model.model.namer
        if namer is None:
            raise ValueError("this model has no namer")
        features = _drawn_features(model, seen, targets["points"], targets["picture"])
        known = targets["noun"] != UNKNOWN
        logits = namer(features).float()
        named = functional.cross_entropy(logits[known], targets["noun"][known], reduction="sum")
        sums = {NAME: named + 0 * logits.sum()}
        if self._teacher is not None:
            sums[MEMORY] = self._memory(model, namer, seen, targets)
        return sums

    def _memory(
        self,
        model: FerretForConditionalGeneration,
        namer: RegionNamer,
        seen: EncodedPictures,
        targets: Mapping[str, Tensor],
    ) -> Tensor:
        """For each picture the mean divergence on its proposals, summed."""
        if seen.object_boxes is None or self._teacher is None:
            return seen.tokens.sum() * 0
        boxes = seen.object_boxes
        own = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
        for picture, overlaps in zip(
            targets["picture"].tolist(),
            pairwise_iou(boxes[targets["picture"]], targets["boxes"][:, None]),
            strict=True,
        ):
            own[picture] |= overlaps[:, 0] > _OWN
        points, anchors, neighbors = model.model.object_pattern(boxes.flatten(0, 1))
        picture = torch.arange(len(boxes), device=boxes.device).repeat_interleave(boxes.shape[1])
        features = _features(model, seen, points, picture, anchors, neighbors)
        teacher = self._teacher.to(boxes.device).eval()
        with torch.no_grad():
            before = teacher(features).float().log_softmax(-1)
        now = namer(features).float().log_softmax(-1)
        apart = functional.kl_div(now, before, log_target=True, reduction="none").sum(-1)
        kept = (~own).flatten().to(apart.dtype)
        return (apart * kept).sum() / boxes.shape[1]

    def _drawn(self, pictured: Sequence[Row]) -> Iterator[tuple[NDArray[np.float32], BoxNumbers, int, int]]:
        for number, row in enumerate(pictured):
            chance = np.random.default_rng(zlib.crc32(row.dialogues[0].sample.id.encode()) + 1)
            named = list(dict.fromkeys(self._named(row)))
            for place in chance.permutation(len(named))[: self._most]:
                box, noun = named[place]
                points, _ = draw_region(box, KINDS[chance.integers(0, len(KINDS))], _POINTS, chance)
                yield points, box, number, noun

    def _named(self, row: Row) -> Iterator[tuple[BoxNumbers, int]]:
        width, height = row.size
        for dialogue in row.dialogues:
            for turn in dialogue.sample.turns[1::2]:
                for one in grounded_phrases(turn.text):
                    noun = self._noun(one.phrase)
                    for index in one.regions if noun != UNKNOWN else ():
                        box = dialogue.sample.box(index)
                        yield (box.x1 / width, box.y1 / height, box.x2 / width, box.y2 / height), noun

    def _noun(self, phrase: str) -> int:
        """The whole phrase if it is one of the nouns, else its head noun."""
        words = without_determiner(phrase)
        return self._places.get(words, self._places.get(head_noun(words), UNKNOWN))


def _features(
    model: FerretForConditionalGeneration,
    seen: EncodedPictures,
    points: Tensor,
    picture: Tensor,
    anchors: Sequence[Tensor],
    neighbors: Sequence[Tensor],
) -> Tensor:
    """What the namer reads of regions, float32 [R, F]; the sampler is only read, and at full precision."""
    sampler = model.model.sampler
    with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
        own = next(sampler.parameters()).dtype
        maps = [one.to(own) for one in seen.maps]
        vectors = sampler(maps, points.to(own), anchors, neighbors, picture).float()
        return namer_features([one.float() for one in maps], points.float(), picture, vectors)


def _drawn_features(
    model: FerretForConditionalGeneration, seen: EncodedPictures, points: Tensor, picture: Tensor
) -> Tensor:
    """The same for points without anchors and neighbours yet, which are found here, on the CPU."""
    geometry = region_geometry(points.cpu().numpy(), model.config.geometry)
    anchors, neighbors = (
        [torch.from_numpy(one).to(points.device) for one in block]
        for block in (geometry.anchors, geometry.neighbors)
    )
    return _features(
        model, seen, torch.from_numpy(geometry.points).to(points.device), picture, anchors, neighbors
    )
