"""The samples of one or more builds, gathered by picture on disk: any picture's dialogues in one read.

A build's samples lie in the order of their hashes, so that those of one picture are far apart. Here they are
written once more, picture by picture, with an index that is mapped into memory; a run then holds none of them. Two
passes with little memory: samples are spread over parts by their picture's name, and each part is put in order.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openferret.data.files.atomic import read_mark, whole_file, write_json
from openferret.data.loading.dataset import Dataset
from openferret.data.marks import find_marks
from openferret.data.schema import Sample
from openferret.errors import InputError

_FORMAT = 1
_PARTS = 64
_MARK = "gathered.json"
_MARK_TOKENS = 12  # four numbers with their commas, as text
_CHARACTERS = 2.5  # to a token, counted rather too few than too many

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Gathered:
    """Samples of builds, by picture.

    Args:
        folder: that `gather` has made.
        builds: the data sets, opened, in the order in which they were gathered.
    """

    folder: Path
    builds: tuple[Dataset, ...]

    @cached_property
    def first(self) -> Numbers:
        """int64 [P + 1]: the first sample of each picture; picture p has those from first[p] to first[p + 1]."""
        return self._mapped("first")

    @cached_property
    def sizes(self) -> Numbers:
        """int64 [n]: about how many tokens each sample has, the prefix not counted."""
        return self._mapped("sizes")

    @cached_property
    def _places(self) -> Numbers:
        return self._mapped("places")

    @cached_property
    def _build_of(self) -> Numbers:
        return self._mapped("build")

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """float64 [P] in 0..1: a hash of each picture's name, by which pictures are kept back for validation."""
        shares: NDArray[np.float64] = self._mapped("shares") / 2**32
        return shares

    @property
    def pictures(self) -> int:
        """How many pictures there are; conversations without one count as one picture."""
        return len(self.first) - 1

    @property
    def digest(self) -> str:
        """Of everything that decides what the samples are."""
        return builds_digest(self.builds)

    def build_of(self, picture: int) -> Dataset:
        """The data set that a picture belongs to."""
        return self.builds[int(self._build_of[picture])]

    def samples(self, numbers: Sequence[int] | Numbers) -> list[Sample]:
        """Samples by their numbers.

        Raises:
            InputError: the file is damaged.
        """
        found = []
        with (self.folder / "samples.bin").open("rb") as file:
            for number in numbers:
                start, end = int(self._places[number]), int(self._places[number + 1])
                file.seek(start)
                try:
                    found.append(Sample.from_dict(json.loads(zlib.decompress(file.read(end - start)))))
                except (zlib.error, ValueError) as error:
                    raise InputError(
                        f"{self.folder} is damaged ({error}); remove it, and it is made again"
                    ) from None
        return found

    def _mapped(self, name: str) -> Numbers:
        try:
            mapped: Numbers = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.folder} is damaged ({error}); remove it, and it is made again") from None
        return mapped


def builds_digest(builds: Sequence[Dataset]) -> str:
    """Of the builds' rows, in order."""
    named = [one.manifest["sha256"] for one in builds]
    return hashlib.sha256(json.dumps([_FORMAT, named]).encode()).hexdigest()


def gather(builds: Sequence[Path], cache: Path) -> Gathered:
    """Gathers the samples of builds, unless that has been done.

    Args:
        builds: folders that `openferret data build` has made.
        cache: where the result is kept, in a folder named by what is in it.

    Raises:
        InputError: a folder is no build, or holds no samples; or there is no room.
    """
    opened = tuple(Dataset.open(place) for place in builds)
    folder = cache / f"samples-{builds_digest(opened)[:16]}"
    if read_mark(folder / _MARK) is None:
        count = _write(opened, folder)
        if not count:
            names = ", ".join(str(place) for place in builds)
            raise InputError(f"there is nothing to learn from: {names} holds no samples")
        write_json(folder / _MARK, {"samples": count})
    return Gathered(folder, opened)


def _write(builds: Sequence[Dataset], folder: Path) -> int:
    parts = [folder / f"part-{number:02d}" for number in range(_PARTS)]
    with whole_file(folder / "spread") as spread:  # its errors are told as for any other file
        spread.touch()
        _spread(builds, parts)
    offsets, first, sizes, build, shares = [0], [0], [], [], []
    with whole_file(folder / "samples.bin") as partial, partial.open("wb") as target:
        for part in parts:
            for key, entries in _grouped(part):
                for _, size, content in entries:
                    target.write(content)
                    offsets.append(offsets[-1] + len(content))
                    sizes.append(size)
                first.append(len(sizes))
                build.append(key[0])
                shares.append(zlib.crc32(key[1].encode()))
            part.unlink()
    (folder / "spread").unlink()
    columns = {"places": offsets, "first": first, "sizes": sizes, "build": build, "shares": shares}
    for name, values in columns.items():
        with whole_file(folder / f"{name}.npy") as partial, partial.open("wb") as target:
            np.save(target, np.array(values, np.int64), allow_pickle=False)
    return len(sizes)


def _spread(builds: Sequence[Dataset], parts: Sequence[Path]) -> None:
    with ExitStack() as stack:
        files = [stack.enter_context(part.open("wb")) for part in parts]
        for number, dataset in enumerate(builds):
            for order, sample in enumerate(dataset.samples()):
                name = "" if sample.picture is None else sample.picture.file
                content = zlib.compress(json.dumps(sample.to_dict(), ensure_ascii=False).encode(), 1)
                head = json.dumps([number, name, order, estimated_tokens(sample), len(content)]).encode()
                files[zlib.crc32(name.encode()) % _PARTS].write(head + b"\n" + content)


def _grouped(part: Path) -> Iterator[tuple[tuple[int, str], list[tuple[int, int, bytes]]]]:
    groups: dict[tuple[int, str], list[tuple[int, int, bytes]]] = {}
    with part.open("rb") as file:
        while head := file.readline():
            number, name, order, size, length = json.loads(head)
            groups.setdefault((number, name), []).append((order, size, file.read(length)))
    for key in sorted(groups):
        yield key, sorted(groups[key])


def estimated_tokens(sample: Sample) -> int:
    """About how many tokens a sample has, rather too many: batches are planned without a tokenizer."""
    characters = sum(len(turn.text) for turn in sample.turns)
    marks = sum(len(find_marks(turn.text)) for turn in sample.turns)
    return round(characters / _CHARACTERS) + _MARK_TOKENS * marks + 8 * len(sample.turns)
