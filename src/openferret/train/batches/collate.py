"""Rows -> one batch of tensors; masks are unfolded here and no earlier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from openferret.processing.processor import FerretProcessor
from openferret.regions import Box, Region
from openferret.train.batches.batch import IGNORED, PADDING, PREFIX, Batch, Dialogue, Row
from openferret.train.objectives.objective import Objective

_BLANK_SIZE = (8, 8)
_BLANK_REGION = Box(0, 0, 8, 8)


@dataclass(frozen=True)
class Collator:
    """Makes batches for one model.

    Args:
        processor: the model's own.
        prefix: tokens of a picture's prefix.
        feature_shapes: of a picture's cached features, for each level; None where the tower runs.
        objectives: that prepare targets.
        room: most tokens of a row; dialogues beyond it wait for another epoch's shuffle.
    """

    processor: FerretProcessor
    prefix: tuple[int, ...]
    feature_shapes: tuple[tuple[int, ...], ...] | None
    objectives: Sequence[Objective]
    room: int

    def __call__(self, rows: Sequence[Row]) -> Batch:
        """Rows (there may be none) -> a batch.

        Raises:
            InputError: a region that cannot be used.
        """
        rows = [self._fitting(row) for row in rows]
        written = [self._sequence(row) for row in rows] or [([0], [0], [PADDING], [IGNORED])]
        length = max(len(ids) for ids, _, _, _ in written)

        def pad(column: int, fill: int) -> Tensor:
            values = [row[column] for row in written]
            return torch.tensor([one + [fill] * (length - len(one)) for one in values])

        pictured = [row for row in rows if row.has_picture]
        pixels, features = self._pictures(pictured)
        regions, sizes, owners = _regions_of(pictured)
        blank_pictures, blank_regions = int(not pictured), int(not regions)
        if blank_regions:
            regions, sizes, owners = [_BLANK_REGION], [_BLANK_SIZE], [max(len(pictured) - 1, 0)]
        geometry = self.processor.region_geometry(regions, sizes)
        return Batch(
            ids=pad(0, 0),
            positions=pad(1, 0),
            segments=pad(2, PADDING),
            labels=pad(3, IGNORED),
            pixels=pixels,
            features=features,
            points=torch.from_numpy(geometry.points),
            anchors=tuple(torch.from_numpy(one) for one in geometry.anchors),
            neighbors=tuple(torch.from_numpy(one) for one in geometry.neighbors),
            region_picture=torch.tensor(owners),
            blank_pictures=blank_pictures,
            blank_regions=blank_regions,
            tasks=tuple(tuple(one.sample.task for one in row.dialogues) for row in rows),
            samples=tuple(tuple(one.sample.id for one in row.dialogues) for row in rows),
            targets={one.name: one.prepare(rows) for one in self.objectives},
        )

    def _fitting(self, row: Row) -> Row:
        length = len(self.prefix) if row.has_picture else 0
        kept: list[Dialogue] = []
        for dialogue in row.dialogues:
            if kept and length + len(dialogue.ids) > self.room:
                continue
            kept.append(dialogue)
            length += len(dialogue.ids)
        return row if len(kept) == len(row.dialogues) else Row(row.image, row.size, row.features, tuple(kept))

    def _sequence(self, row: Row) -> tuple[list[int], list[int], list[int], list[int]]:
        ids = list(self.prefix) if row.has_picture else []
        start = len(ids)
        positions, segments, labels = list(range(start)), [PREFIX] * start, [IGNORED] * start
        for number, dialogue in enumerate(row.dialogues, start=1):
            ids += dialogue.ids
            positions += range(start, start + len(dialogue.ids))
            segments += [number] * len(dialogue.ids)
            labels += dialogue.labels
        return ids, positions, segments, labels

    def _pictures(self, rows: Sequence[Row]) -> tuple[Tensor | None, tuple[Tensor, ...] | None]:
        if self.feature_shapes is None:
            images = [row.image for row in rows if row.image is not None]
            images = images or [Image.fromarray(np.zeros((*_BLANK_SIZE, 3), np.uint8))]
            return torch.from_numpy(self.processor.pixel_values(images)), None
        seen = [row.features for row in rows if row.features is not None]
        seen = seen or [tuple(torch.zeros(shape) for shape in self.feature_shapes)]
        return None, tuple(torch.stack(level) for level in zip(*seen, strict=True))


def _regions_of(rows: Sequence[Row]) -> tuple[list[Region], list[tuple[int, int]], list[int]]:
    placed = [
        (region, row.size, number)
        for number, row in enumerate(rows)
        for dialogue in row.dialogues
        for region in dialogue.regions
    ]
    return [one for one, _, _ in placed], [size for _, size, _ in placed], [number for _, _, number in placed]
