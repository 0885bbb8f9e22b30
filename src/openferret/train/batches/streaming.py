"""Batches in their order, read ahead by processes of their own.

The order is the plan's (`openferret.train.batches.bucketing`), and any place in it can be begun at. Each rank reads
its own rows, and each of its loaders every so many of its batches: nothing is read twice, and nobody holds the
data set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import ImageOps
from torch.utils.data import DataLoader, Dataset

from openferret.data.loading.mirroring import can_mirror, mirror_sample
from openferret.data.schema import PictureReference
from openferret.errors import InputError
from openferret.train.batches.batch import Batch, Row
from openferret.train.batches.bucketing import Plan, PlannedRow
from openferret.train.batches.collate import Collator
from openferret.train.batches.features import FeatureCache
from openferret.train.batches.gathering import Gathered
from openferret.train.batches.wording import DialogueWriter

_AHEAD = 4  # batches that each loader holds ready
_LOOKED_AT = 5_000  # pictures


@dataclass(frozen=True)
class Reader:
    """Reads planned rows.

    Args:
        gathered: the samples.
        writer: of dialogues in the model's words.
        collator: of batches.
        features: of a frozen tower, those of mirrored pictures after those of all others; None where pictures are
            read.
        skip_missing: leave out rows whose picture cannot be had.
    """

    gathered: Gathered
    writer: DialogueWriter
    collator: Collator
    features: FeatureCache | None
    skip_missing: bool

    def batch(self, planned: Sequence[PlannedRow]) -> Batch:
        """The rows of one forward pass.

        Raises:
            InputError: a picture is missing or damaged, or a sample cannot be used; both are named.
        """
        return self.collator([row for one in planned if (row := self.row(one)) is not None])

    def row(self, planned: PlannedRow) -> Row | None:
        """One row; None if its picture cannot be had and that is allowed."""
        samples = self.gathered.samples(planned.samples)
        mirrored = planned.mirrored and all(map(can_mirror, samples))
        if mirrored:
            samples = [mirror_sample(one) for one in samples]
        dialogues = tuple(self.writer.write(sample, planned.epoch) for sample in samples)
        picture = samples[0].picture
        if picture is None:
            return Row(None, (0, 0), None, dialogues)
        size = (picture.width, picture.height)
        if self.features is not None:
            seen = planned.picture + mirrored * self.gathered.pictures
            if self.skip_missing and not self.features.done[seen]:
                return None
            return Row(None, size, self.features.read(seen), dialogues)
        try:
            image = self.gathered.build_of(planned.picture).load_picture(picture)
        except InputError as error:
            if self.skip_missing:
                return None
            raise missing_picture(picture, str(error)) from None
        return Row(ImageOps.mirror(image) if mirrored else image, size, None, dialogues)


@dataclass(frozen=True)
class LoadFailure:
    """What kept a loader from a batch: it is told in the process that trains."""

    message: str


class _Passes(Dataset[Batch | LoadFailure]):
    """Forward pass number k of one process."""

    def __init__(self, reader: Reader, plan: Plan, accumulation: int, process: int, processes: int) -> None:
        self._reader, self._plan, self._accumulation = reader, plan, accumulation
        self._process, self._processes = process, processes

    def __getitem__(self, number: int) -> Batch | LoadFailure:
        step, place = divmod(number, self._accumulation)
        try:
            return self._reader.batch(self._plan.passes(step, self._process, self._processes)[place])
        except InputError as error:
            return LoadFailure(str(error))


def stream_batches(
    reader: Reader,
    plan: Plan,
    accumulation: int,
    first_step: int,
    steps: int,
    workers: int,
    process: int = 0,
    processes: int = 1,
) -> Iterator[list[Batch]]:
    """For each step from `first_step` to `steps` the batches of a process's forward passes.

    Args:
        reader: of rows.
        plan: of the run.
        accumulation: forward passes of each step.
        first_step: 0 for the first.
        steps: of the whole run.
        workers: loaders; 0 to read between the steps.
        process: rank.
        processes: how many there are.

    Raises:
        InputError: something cannot be read.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a loader is forked; threads would not survive
    passes = _Passes(reader, plan, accumulation, process, processes)
    loader = DataLoader(
        passes,
        batch_size=None,
        sampler=range(first_step * accumulation, steps * accumulation),
        num_workers=workers,
        prefetch_factor=_AHEAD if workers else None,
        multiprocessing_context="fork" if workers and os.name == "posix" else None,
    )
    ready: list[Batch] = []
    for one in loader:
        if isinstance(one, LoadFailure):
            raise InputError(one.message)
        ready.append(one)
        if len(ready) == accumulation:
            yield ready
            ready = []


def check_pictures(gathered: Gathered, pictures: Sequence[int], skip_missing: bool) -> list[int]:
    """Pictures that are where they should be; of very many, every so many are looked for.

    Args:
        gathered: the samples.
        pictures: their numbers.
        skip_missing: leave out those that are missing.

    Returns:
        The numbers of those to be used.

    Raises:
        InputError: some are missing, and that is not allowed, or all are.
    """
    looked_at = pictures[:: max(len(pictures) // _LOOKED_AT, 1)]
    missing: dict[int, PictureReference] = {}
    for number in looked_at:
        picture = gathered.samples([gathered.first[number]])[0].picture
        if picture is not None and not gathered.build_of(number).has_picture(picture):
            missing[number] = picture
    if missing and (not skip_missing or len(missing) == len(looked_at)):
        first = next(iter(missing.values()))
        raise InputError(
            f"{len(missing)} of {len(looked_at)} pictures are missing, as {first.file}: put them back, build the data "
            "again, or leave their samples out with --set data.skip_missing=true"
        )
    return [number for number in pictures if number not in missing]


def missing_picture(picture: PictureReference, reason: str) -> InputError:
    """What a person is told of a picture that cannot be had."""
    return InputError(
        f"the picture {picture.file} cannot be used: {reason}; put it right, or leave such samples out with "
        "--set data.skip_missing=true"
    )
