"""Columns of byte strings, and their concatenation row by row without an object for each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
Numbers: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
# Selects rows: a slice, a flag for each row, or positions.
Index: TypeAlias = slice | Flags | Numbers
# Copying more bytes than this costs more than a call of its own.
_LONG = 128
# For fewer values, copying byte by byte costs less than a call for each length.
_FEW = 100


@dataclass(frozen=True)
class ByteColumn:
    """One byte string per row, each a slice of the same buffer.

    Attributes:
        data: the buffer; it may hold other bytes too.
        starts, lengths: the slice of each row.
    """

    data: Bytes
    starts: Numbers
    lengths: Numbers

    @classmethod
    def of(cls, values: Sequence[bytes]) -> Self:
        """The column of some values."""
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        return cls(np.frombuffer(b"".join(values), np.uint8), np.cumsum(lengths) - lengths, lengths)

    @classmethod
    def of_arrow(cls, array: Any) -> Self:
        """The column of an Arrow array of strings without nulls."""
        _, offsets, data = array.buffers()
        if not len(array):
            return cls.of([])
        offsets_32 = np.frombuffer(offsets, np.int32)
        places = offsets_32[array.offset : array.offset + len(array) + 1].astype(np.int64)
        held = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
        return cls(held, places[:-1], np.diff(places))

    def arrow(self) -> Any:
        """The column as an Arrow array of strings; the values must be valid UTF-8."""
        import pyarrow as pa

        data, ends = concat([self], len(self))
        offsets: Any = np.zeros(len(self) + 1, np.int32)
        offsets[1:] = ends
        return pa.StringArray.from_buffers(len(self), pa.py_buffer(offsets), pa.py_buffer(data.data))

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> bytes:
        start = int(self.starts[row])
        return self.data[start : start + int(self.lengths[row])].tobytes()

    def to_list(self) -> list[bytes]:
        """An object for each row."""
        data = self.data.data
        return [
            bytes(data[start : start + length])
            for start, length in zip(self.starts.tolist(), self.lengths.tolist(), strict=True)
        ]

    def take(self, index: Index) -> Self:
        """The values of some rows."""
        return type(self)(self.data, self.starts[index], self.lengths[index])

    def where(self, flags: Flags) -> Self:
        """The same column, with empty values where a flag is not set."""
        return type(self)(self.data, self.starts, self.lengths * flags)


def is_any_of(column: ByteColumn, values: Sequence[bytes]) -> Flags:
    """Flag the rows whose value is one of `values`."""
    found = np.zeros(len(column), np.bool_)
    for value in values:
        rows = np.flatnonzero(column.lengths == len(value))
        if value and len(rows):
            found[rows] |= _windows(column.data, len(value))[column.starts[rows]] == np.void(value)
        else:
            found[rows] = True
    return found


def masked(value: bytes, flags: Flags) -> ByteColumn:
    """A column with `value` where a flag is set, and an empty value elsewhere."""
    # A single zero, viewed once per row.
    starts = np.broadcast_to(np.int64(0), len(flags))
    return ByteColumn(np.frombuffer(value, np.uint8), starts, flags.astype(np.int64) * len(value))


Part: TypeAlias = bytes | ByteColumn
"""A constant that is the same in each row, or a column."""


@dataclass(frozen=True)
class ConcatColumn:
    """A column that is the concatenation of parts, not materialized yet.

    Attributes:
        parts: from left to right.
        count: rows.
    """

    parts: Sequence[Part]
    count: int

    @classmethod
    def of(cls, values: Sequence[bytes]) -> Self:
        """The column of some values."""
        return cls([ByteColumn.of(values)], len(values))

    def __len__(self) -> int:
        return self.count

    def lengths(self) -> Numbers:
        """Bytes of each row."""
        return total_lengths(self.parts, self.count)

    def take(self, index: Index) -> Self:
        """Some of the rows."""
        parts = [part if isinstance(part, bytes) else part.take(index) for part in self.parts]
        return type(self)(parts, len(np.empty(self.count, np.bool_)[index]))

    def materialized(self) -> Self:
        """The same rows as a single part."""
        data, ends = concat(self.parts, self.count)
        sizes = np.diff(ends, prepend=0)
        return type(self)([ByteColumn(data, ends - sizes, sizes)], self.count)

    def to_list(self) -> list[bytes]:
        """An object for each row."""
        data, ends = concat(self.parts, self.count)
        whole = data.tobytes()
        places = [0, *ends.tolist()]
        return [whole[start:end] for start, end in pairwise(places)]


def total_lengths(parts: Sequence[Part], count: int) -> Numbers:
    """Bytes of each row of the concatenated parts."""
    total = np.full(count, sum(len(part) for part in parts if isinstance(part, bytes)), np.int64)
    for part in parts:
        if isinstance(part, ByteColumn):
            total += part.lengths
    return total


def concat(parts: Sequence[Part], count: int) -> tuple[Bytes, Numbers]:
    """Concatenate parts, row after row.

    Returns:
        The bytes of all rows, and where each row ends in them.
    """
    ends = np.cumsum(sizes := total_lengths(parts, count))
    if not count:
        return np.empty(0, np.uint8), ends
    data = np.empty(int(ends[-1]), np.uint8)
    places = ends - sizes
    for part in _merge_constants(parts):
        if isinstance(part, ByteColumn):
            _copy(part, data, places)
            places = places + part.lengths
        elif part:
            _windows(data, len(part))[places] = np.frombuffer(part, f"V{len(part)}")
            places = places + len(part)
    return data, ends


def count_before(flags: Flags) -> npt.NDArray[np.int32]:
    """The number of set flags before each position, and before the end."""
    before = np.zeros(flags.size + 1, np.int32)
    np.cumsum(flags, out=before[1:])
    return before


def _merge_constants(parts: Sequence[Part]) -> list[Part]:
    """The same parts, with adjacent constants merged."""
    merged: list[Part] = []
    for part in parts:
        last = merged[-1] if merged else None
        if isinstance(part, bytes) and isinstance(last, bytes):
            merged[-1] = last + part
        else:
            merged.append(part)
    return merged


def _copy(column: ByteColumn, data: Bytes, places: Numbers) -> None:
    """Copy each value to its place: short ones of equal length at once, long ones one by one."""
    lengths, starts = column.lengths, column.starts
    is_long = lengths > _LONG
    if is_long.any():
        rows = np.flatnonzero(is_long)
        for place, start, length in zip(
            places[rows].tolist(), starts[rows].tolist(), lengths[rows].tolist(), strict=True
        ):
            data[place : place + length] = column.data[start : start + length]
        lengths = np.where(is_long, 0, lengths)
    if len(lengths) <= _FEW:
        # There are about as many lengths as values.
        before = np.cumsum(lengths) - lengths
        bytes_at = np.arange(int(lengths.sum()))
        data[bytes_at + np.repeat(places - before, lengths)] = column.data[
            bytes_at + np.repeat(starts - before, lengths)
        ]
        return
    counts = np.bincount(lengths)
    for length in np.flatnonzero(counts).tolist():
        if length:
            same = slice(None) if counts[length] == len(lengths) else np.flatnonzero(lengths == length)
            _windows(data, length)[places[same]] = _windows(column.data, length)[starts[same]]


def _windows(data: Bytes, length: int) -> npt.NDArray[np.void]:
    """All windows of `length` bytes, each as one item whose index is where it starts."""
    return np.ndarray((data.size - length + 1,), f"V{length}", data, 0, (1,))
