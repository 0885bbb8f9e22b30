"""Records on their way from the readers to the writers: files of a few hundred, inside a build's own folder.

They are pickles, which are fast, of the record classes alone: what else a file names is refused, not run.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from openferret.data import records
from openferret.data.files.atomic import whole_file
from openferret.data.outlines import Polygons, RunLengths
from openferret.data.records import Record
from openferret.data.schema import PictureReference, Turn
from openferret.errors import InputError
from openferret.regions import Box, Polygon

T = TypeVar("T")

_CLASSES = (
    *(records.Record, records.Category, records.Vocabulary, records.AnnotatedObject, records.Relationship),
    *(records.RegionDescription, records.Phrase, records.Caption, records.QuestionAnswer),
    *(records.Expression, records.Dialogue, PictureReference, Turn, RunLengths, Polygons, Box, Polygon),
)
_BY_NAME = {(kind.__module__, kind.__name__): kind for kind in _CLASSES}


def _reducer(kind: type) -> Callable[[Any], tuple[type, tuple[Any, ...]]]:
    # Dataclasses with slots are pickled field by field in Python; their constructors' arguments are faster.
    values = attrgetter(*(field.name for field in fields(kind)))
    single = len(fields(kind)) == 1
    return lambda noun: (kind, (values(noun),) if single else values(noun))


class _Pickler(pickle.Pickler):
    dispatch_table: ClassVar[dict[type, Callable[[Any], Any]]] = {  # type: ignore[misc]
        kind: _reducer(kind) for kind in _CLASSES
    }


def write_records(path: Path, batch: Sequence[Record]) -> None:
    """A file of records, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    import pyarrow as pa

    with whole_file(path) as partial, pa.CompressedOutputStream(str(partial), "zstd") as file:
        _Pickler(file, protocol=5).dump(list(batch))


def read_records(path: Path) -> list[Record]:
    """Records as `write_records` has put them away.

    Raises:
        InputError: the file is damaged, or is another's.
    """
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(str(path), "zstd") as file:
            content = _RecordsOnly(io.BytesIO(file.read())).load()
    except (OSError, pickle.UnpicklingError, EOFError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}: {error}); delete its folder and build again"
        ) from None
    if not isinstance(content, list) or not all(isinstance(one, Record) for one in content):
        raise InputError(f"{path} holds no records; delete its folder and build again")
    return content


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Items in lists of `size`, the last one shorter."""
    coming = iter(items)
    while batch := list(islice(coming, size)):
        yield batch


class _RecordsOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _BY_NAME:
            return _BY_NAME[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for an object outside the file")
