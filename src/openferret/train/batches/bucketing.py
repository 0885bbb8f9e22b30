"""Which dialogues go into which batch: decided by seed and epoch alone, so that a run can begin anywhere in it.

A picture's samples are shuffled and cut into rows; rows are shuffled, those of a few steps sorted by length among
each other, and each step's rows handed to the processes in turn. The order is that of *steps*: a run on another
number of processes sees the same rows in the same step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openferret.errors import InputError
from openferret.train.batches.gathering import Gathered, Numbers
from openferret.train.recipes.recipe import TrainingRecipe

_KEPT_EPOCHS = 2
_MIRRORS = 1  # draws of their own: the order does not depend on how many are mirrored


def split_pictures(gathered: Gathered, validation: float) -> tuple[list[int], list[int]]:
    """Numbers of the pictures to learn from, and of those kept back: a share of them, by hash of their name."""
    kept_back = gathered.shares < validation
    return np.flatnonzero(~kept_back).tolist(), np.flatnonzero(kept_back).tolist()


@dataclass(frozen=True)
class PlannedRow:
    """A row that has not been read yet.

    Attributes:
        picture: number of the picture.
        samples: numbers of its samples in the row.
        epoch: that it belongs to.
        mirrored: shown as a mirror shows it, if its samples' words allow that.
    """

    picture: int
    samples: tuple[int, ...]
    epoch: int
    mirrored: bool = False


@dataclass(frozen=True)
class EpochPlan:
    """The rows of one epoch in their order.

    Attributes:
        starts: int64 [n + 1]: where each row begins in `order`.
        order: int64, numbers of samples.
        pictures: int64 [n], the picture of each row.
        batches: int64 [steps, size], rows of each step, sorted by length.
        mirrored: bool [n], rows to be shown as a mirror shows them.
    """

    starts: Numbers
    order: Numbers
    pictures: Numbers
    batches: Numbers
    mirrored: NDArray[np.bool_]


class Plan:
    """Batches of a run.

    Args:
        gathered: the samples.
        recipe: of the run.
        prefix: tokens of a picture's prefix.
        pictures: numbers of the pictures to learn from.
    """

    def __init__(
        self, gathered: Gathered, recipe: TrainingRecipe, prefix: int, pictures: Sequence[int]
    ) -> None:
        self._gathered, self._recipe, self._prefix = gathered, recipe, prefix
        self._pictures = pictures
        self._planned: dict[int, EpochPlan] = {}
        first = self.epoch(0)
        self.rows = len(first.pictures)
        self.answers = len(first.order)

    @property
    def steps_per_epoch(self) -> int:
        """Whole steps that the rows of an epoch make; rows that are left over wait for the next shuffle."""
        return self.rows // self._recipe.batch.size

    def check(self) -> None:
        """Refuses data that do not fill a step.

        Raises:
            InputError: there are fewer rows than a step takes.
        """
        if not self.steps_per_epoch:
            raise InputError(
                f"there is too little to learn from: the data make {self.rows} rows of pictures, but a step takes "
                f"{self._recipe.batch.size}; make batch.size and batch.micro smaller (--set batch.size=...)"
            )

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self._recipe.steps or max(round(self._recipe.epochs * self.steps_per_epoch), 1)

    def epoch(self, number: int) -> EpochPlan:
        """The plan of an epoch; the latest are kept."""
        if number not in self._planned:
            for old in sorted(self._planned)[: 1 - _KEPT_EPOCHS]:
                del self._planned[old]
            self._planned[number] = self._plan(number)
        return self._planned[number]

    def passes(self, step: int, process: int, processes: int) -> list[list[PlannedRow]]:
        """What a process reads for a step: for each of its forward passes the rows.

        Args:
            step: 0 for the first.
            process: rank.
            processes: how many share the step's rows.
        """
        micro = self._recipe.batch.micro
        count = self._recipe.batch.accumulation(processes)
        epoch, place = divmod(step, self.steps_per_epoch)
        plan = self.epoch(epoch)
        rows = plan.batches[place]
        return [
            [
                self._row(plan, int(row), epoch, bool(plan.mirrored[row]))
                for row in rows[(number * processes + process) * micro :][:micro]
            ]
            for number in range(count)
        ]

    def all_rows(self, process: int, processes: int) -> list[list[PlannedRow]]:
        """Every row of the first epoch once and as it is, `batch.micro` at a time: for the validation loss.

        Every process gets as many passes as the others; the last may be empty.
        """
        plan, micro = self.epoch(0), self._recipe.batch.micro
        count = -(-len(plan.pictures) // (micro * processes))
        rows = [self._row(plan, row, 0) for row in range(len(plan.pictures))]
        return [rows[(number * processes + process) * micro :][:micro] for number in range(count)]

    def _row(self, plan: EpochPlan, row: int, epoch: int, mirrored: bool = False) -> PlannedRow:
        own = plan.order[plan.starts[row] : plan.starts[row + 1]]
        return PlannedRow(int(plan.pictures[row]), tuple(own.tolist()), epoch, mirrored)

    def _plan(self, number: int) -> EpochPlan:
        seed = self._recipe.seed
        generator = np.random.default_rng([seed, number])
        order, starts, pictures, lengths = self._cut(generator)
        shuffled = generator.permutation(len(pictures))
        size = self._recipe.batch.size
        steps = self.steps_per_epoch if number else len(pictures) // size
        # Rows of a later epoch may be a few fewer: then the first of them come twice.
        wanted = np.resize(shuffled, steps * size) if len(shuffled) else shuffled
        batches = wanted.reshape(steps, size)
        window = self._recipe.batch.bucket
        if window:
            for start in range(0, steps, window):
                own = batches[start : start + window]
                by_length = own.ravel()[np.argsort(lengths[own.ravel()], kind="stable")]
                batches[start : start + window] = generator.permutation(by_length.reshape(own.shape))
        mirrored = (
            np.random.default_rng([seed, number, _MIRRORS]).random(len(pictures)) < self._recipe.data.mirror
        )
        return EpochPlan(starts, order, pictures, batches.astype(np.int64), mirrored)

    def _cut(self, generator: np.random.Generator) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """Shuffles each picture's samples and cuts them into rows: order, starts, pictures, lengths."""
        first, sizes = self._gathered.first, self._gathered.sizes
        most, room = self._recipe.data.dialogues, self._recipe.data.max_length - self._prefix
        order: list[int] = []
        starts, pictures, lengths = [0], [], []
        for picture in self._pictures:
            own = np.arange(first[picture], first[picture + 1])
            generator.shuffle(own)
            count = length = 0
            for sample, size in zip(own.tolist(), sizes[own].tolist(), strict=True):
                if count and (count == most or length + size > room):
                    starts.append(len(order))
                    pictures.append(picture)
                    lengths.append(length)
                    count = length = 0
                order.append(sample)
                count, length = count + 1, length + size
            starts.append(len(order))
            pictures.append(picture)
            lengths.append(length)
        columns = (np.array(one, np.int64) for one in (order, starts, pictures, lengths))
        order_, starts_, pictures_, lengths_ = columns
        return order_, starts_, pictures_, lengths_
