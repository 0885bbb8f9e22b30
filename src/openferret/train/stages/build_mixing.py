"""A built data set among stage L's pictures: its dialogues, mixed with those that are written from annotations.

A picture of the build that is also one of Kit's own (the same picture of Flickr30k or COCO, by its identity) is shown
from Kit's store of pixels, and its dialogues take the place of some of those written for it. Any other picture is
squashed into a store of its own, and only asked what the build asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openferret.data.building.leaks import identities
from openferret.data.files.atomic import whole_file
from openferret.data.loading.dataset import Dataset
from openferret.data.schema import PictureReference
from openferret.train.batches.gathering import Gathered, gather
from openferret.train.stages.build_exchanges import exchanges_of
from openferret.train.stages.build_leaks import allowed_pictures
from openferret.train.stages.dialogues import Exchange
from openferret.train.stages.pictures import STORED_SIDE, Crop, PixelStore, Record

SHARE = 0.5  # of a picture's questions that are the build's, where it has both
_ALONE = 12  # questions on a picture that only the build has
_TOKENS = (
    62  # of a sample on average, as `gather` estimates them: as long as the questions that make way for it
)


@dataclass(frozen=True)
class BuildMixing:
    """A build's dialogues by row of the pixel store.

    Attributes:
        gathered: its samples by picture.
        pictures: row of the store -> number of the picture in `gathered`.
        store: Kit's pictures, then those that only the build has.
        alone: records of the latter, on which nothing is named.
        kept_back: pictures of the build that choices are made by; they are not used.
        share: of a picture's questions that are the build's, 0..1.
    """

    gathered: Gathered
    pictures: Mapping[int, int]
    store: PixelStore
    alone: tuple[Record, ...]
    kept_back: int
    share: float = SHARE

    @property
    def digest(self) -> str:
        """Of the build's samples and of how they are mixed."""
        return f"{self.gathered.digest}:{self.share}"

    def summary(self, records: Sequence[Record]) -> str:
        """For people: how many pictures and dialogues there are."""
        own = {record.row for record in records}
        both = sum(row in own for row in self.pictures)
        samples = sum(
            int(self.gathered.first[number + 1] - self.gathered.first[number])
            for number in self.pictures.values()
        )
        return (
            f"the build has {samples} dialogues about {both} of {len(own)} pictures and {len(self.alone)} others; "
            f"{self.kept_back} of its pictures are dev and not used"
        )

    def mix(
        self, record: Record, crop: Crop, own: Sequence[Exchange], points: int, generator: np.random.Generator
    ) -> list[Exchange]:
        """A picture's questions, as many as before: some of the build's instead of as many of its own.

        Args:
            record: the picture.
            crop: what is shown of it.
            own: exchanges written from its annotations; none if only the build has the picture.
            points: sampler points of a region.
            generator: decides which, and how regions are drawn.
        """
        if record.row not in self.pictures:
            return list(own)
        wanted = round(self.share * len(own)) if own else _ALONE
        new = self._drawn(self.pictures[record.row], crop, wanted, points, generator)
        kept = sorted(generator.permutation(len(own))[: len(own) - len(new)]) if own else []
        return [own[place] for place in kept] + new

    def _drawn(
        self, picture: int, crop: Crop, wanted: int, points: int, generator: np.random.Generator
    ) -> list[Exchange]:
        first, end = self.gathered.first[picture : picture + 2].tolist()
        numbers: list[int] = []
        room = wanted * _TOKENS
        for number in generator.permutation(np.arange(first, end)).tolist():
            if len(numbers) < wanted and self.gathered.sizes[number] <= room:
                numbers.append(number)
                room -= int(self.gathered.sizes[number])
        found = [
            exchange
            for sample in self.gathered.samples(numbers)
            for exchange in exchanges_of(sample, crop, points, generator)
        ]
        return found[:wanted]


class _Joined:
    """Two stores, the rows of the second after those of the first."""

    def __init__(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> None:
        self._first, self._second = first, second

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = (
            self._first[row] if row < len(self._first) else self._second[row - len(self._first)]
        )
        return found


def mix_build(
    build: Path,
    data: Path,
    out: Path,
    store: NDArray[np.uint8],
    records: Sequence[Record],
    share: float = SHARE,
) -> BuildMixing:
    """Opens a build for stage L: no picture that Kit is measured on or chosen by, the others by row.

    Args:
        build: folder that `openferret data build` has made.
        data: Kit's training data.
        out: folder where the gathered samples, and the pixels of pictures that only the build has, are kept.
        store: Kit's pictures.
        records: of the pictures that Kit is trained on.
        share: of a picture's questions that are the build's.

    Raises:
        InputError: it is no build; it holds pictures that Kit is measured on; a picture cannot be opened.
    """
    dataset = Dataset.open(build)
    allowed = allowed_pictures(dataset, data)
    gathered = gather([build], out)
    numbers = _numbers(gathered)
    rows = {record.name: record.row for record in records if record.name}
    pictures: dict[int, int] = {}
    others: list[PictureReference] = []
    for picture in allowed.pictures:
        row = next((rows[name] for name in identities(picture) if name in rows), None)
        if row is None:
            others.append(picture)
        else:
            pictures.setdefault(row, numbers[picture.file])
    others = [one for one in others if one.known_size]
    own = _squashed(out / f"build-{gathered.digest[:16]}.npy", dataset, others)
    alone = []
    for place, picture in enumerate(others):
        row = len(store) + place
        pictures[row] = numbers[picture.file]
        alone.append(Record(row, (), frozenset(), False, name=identities(picture)[0]))
    joined = store if not others else _Joined(store, own)
    return BuildMixing(gathered, pictures, joined, tuple(alone), allowed.kept_back, share)


def _numbers(gathered: Gathered) -> dict[str, int]:
    """Number of each picture by its file."""
    found = {}
    for number, first in enumerate(gathered.first[:-1]):
        picture = gathered.samples([int(first)])[0].picture
        if picture is not None:
            found[picture.file] = number
    return found


def _squashed(target: Path, dataset: Dataset, pictures: Sequence[PictureReference]) -> NDArray[np.uint8]:
    """Pictures as Kit's store has its own, uint8 [n, 224, 224, 3]; made once."""
    if not target.exists() and pictures:
        with whole_file(target) as partial:
            shape = (len(pictures), STORED_SIDE, STORED_SIDE, 3)
            store = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
            for place, picture in enumerate(pictures):
                image = dataset.load_picture(picture)
                store[place] = np.asarray(image.resize((STORED_SIDE, STORED_SIDE)))
            store.flush()
    opened: NDArray[np.uint8] = (
        np.load(target, mmap_mode="r") if pictures else np.empty((0, STORED_SIDE, STORED_SIDE, 3), np.uint8)
    )
    return opened
