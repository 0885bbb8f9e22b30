"""What identifies rows: their values alone, whatever file, compression or library version holds them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa


class _Hash(Protocol):
    def update(self, data: Any, /) -> None: ...


def table_digest(table: pa.Table) -> str:
    """SHA-256 of a table's columns, names, types and values; the same for any chunking or slice.

    Returns:
        64 hexadecimal digits.
    """
    state = hashlib.sha256()
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        state.update(f"{name}:{_kind(column.type)}:{len(column)}\n".encode())
        _add(column, state)
    return state.hexdigest()


def joined_digest(digests: Iterable[str]) -> str:
    """SHA-256 of several digests in their order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _kind(kind: Any) -> str:
    """A type by what it holds: Parquet renames the field of a list, and forgets whether a text is large."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return "{" + ",".join(f"{field.name}:{_kind(field.type)}" for field in kind) + "}"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"[{_kind(kind.value_type)}]"
    if pa.types.is_dictionary(kind):
        return _kind(kind.value_type)
    return str(kind).removeprefix("large_")


def _add(array: Any, state: _Hash) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if array.null_count:
        state.update(np.packbits(array.is_valid().to_numpy(zero_copy_only=False)).tobytes())
        state.update(b"nulls")
    if pa.types.is_struct(kind):
        for place in range(kind.num_fields):
            _add(pc.struct_field(array, place), state)
    elif pa.types.is_dictionary(kind):
        _add(array.dictionary_decode(), state)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        state.update(_lengths(pc.list_value_length(array)))
        _add(array.flatten(), state)
    elif pa.types.is_fixed_size_list(kind):
        _add(array.flatten(), state)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_bytes(kind):
        state.update(_lengths(pc.binary_length(array)))
        state.update(_text_bytes(array))
    elif pa.types.is_null(kind):
        state.update(b"null")
    else:
        state.update(np.ascontiguousarray(_filled(array)).tobytes())


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _filled(array: Any) -> NDArray[Any]:
    import pyarrow as pa

    blank = False if pa.types.is_boolean(array.type) else 0
    values: NDArray[Any] = array.fill_null(blank).to_numpy(zero_copy_only=False)
    return values


def _lengths(lengths: Any) -> bytes:
    return bytes(lengths.fill_null(0).to_numpy(zero_copy_only=False).astype("<i8").tobytes())


def _text_bytes(array: Any) -> memoryview:
    """All bytes of a text column in a row, without those of null or sliced-away values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    packed = pa.concat_arrays([pc.fill_null(array.cast(pa.large_binary()), b"")])
    if not len(packed):
        return memoryview(b"")
    _, offsets, data = packed.buffers()
    places = np.frombuffer(offsets, np.int64)[packed.offset : packed.offset + len(packed) + 1]
    return memoryview(data)[int(places[0]) : int(places[-1])] if data is not None else memoryview(b"")
