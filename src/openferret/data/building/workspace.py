"""Where a build keeps what it has done so far: a hidden folder beside the result, gone when that is whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from openferret.data.files.atomic import read_mark, write_json
from openferret.errors import InputError

MANIFEST = "manifest.json"
PROBLEMS = "problems.jsonl"


@dataclass(frozen=True)
class Workspace:
    """Paths of a build.

    Args:
        out: the folder of the result.
    """

    out: Path

    @property
    def hidden(self) -> Path:
        """The folder of unfinished work."""
        return self.out / ".build"

    def records(self, source: str) -> Path:
        """The folder of a source's records."""
        return self.hidden / "records" / source

    def samples(self, source: str) -> Path:
        """The folder of a source's samples."""
        return self.hidden / "samples" / source

    def joined(self, number: int) -> Path:
        """The mark of a finished shard."""
        return self.hidden / "joined" / f"{number:05d}.json"

    @property
    def order(self) -> Path:
        """Which samples are taken, in order: int32 [n, 2], file and row."""
        return self.hidden / "order.npy"

    @property
    def leaks(self) -> Path:
        """Ids and hashes of the evaluation sets."""
        return self.hidden / "leaks.json"

    @property
    def manifest(self) -> Path:
        """What the result holds; written last."""
        return self.out / MANIFEST

    @property
    def problems(self) -> Path:
        """Every record that could not be used, a line each."""
        return self.out / PROBLEMS


@contextmanager
def opened(out: Path, key: str) -> Iterator[Workspace]:
    """A workspace for one build, locked against another in the same folder; what an earlier run did is kept.

    Args:
        out: the folder of the result.
        key: what the build depends on; unfinished work of another key is refused, not mixed in.

    Raises:
        InputError: the folder is in use, holds something else, or cannot be written.
    """
    place = Workspace(out)
    mark = place.hidden / "key.json"
    try:
        if not place.hidden.is_dir() and out.is_dir() and any(out.iterdir()):
            raise InputError(f"{out} is not empty: choose another folder for --out")
        place.hidden.mkdir(parents=True, exist_ok=True)
        with FileLock(place.hidden / "lock", timeout=0):
            found = read_mark(mark)
            if found is None:
                write_json(mark, {"key": key})
            elif found.get("key") != key:
                raise InputError(
                    f"{out} holds an unfinished build of another recipe, or its sources have changed since: "
                    "choose another folder for --out, or delete this one"
                )
            yield place
    except Timeout:
        raise InputError(f"another build is at work in {out}") from None
    except OSError as error:
        raise InputError(f"{out} cannot be used: {error.strerror or error}") from None


def clear(place: Workspace) -> None:
    """Removes what only an unfinished build needs."""
    shutil.rmtree(place.hidden, ignore_errors=True)
