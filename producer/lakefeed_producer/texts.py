"""Columns of texts as places in bytes, and their joining row by row without an object for each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
Numbers: TypeAlias = npt.NDArray[np.int64]
# What chooses among rows: a slice, flags, or positions.
Index: TypeAlias = slice | npt.NDArray[np.bool_] | Numbers
# So many bytes cost more to copy than a call of its own.
_LONG = 128
# Of so few texts, a look at each byte costs less than a call for each length.
_FEW = 100


@dataclass(frozen=True)
class Texts:
    """One column: a text for each row, somewhere in `data`.

    Attributes:
        data: bytes that hold all texts, and perhaps others.
        starts, lengths: where each text is.
    """

    data: Bytes
    starts: Numbers
    lengths: Numbers

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Self:
        """The column of some texts."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        return cls(np.frombuffer(b"".join(texts), np.uint8), np.cumsum(lengths) - lengths, lengths)

    @classmethod
    def of_arrow(cls, array: Any) -> Self:
        """The column of an Arrow array of texts without nulls."""
        _, offsets, data = array.buffers()
        if not len(array):
            return cls.of([])
        offsets_32 = np.frombuffer(offsets, np.int32)
        places = offsets_32[array.offset : array.offset + len(array) + 1].astype(np.int64)
        held = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
        return cls(held, places[:-1], np.diff(places))

    def arrow(self) -> Any:
        """The column as an Arrow array of strings; the texts must be valid UTF-8."""
        import pyarrow as pa

        data, ends = joined([self], len(self))
        offsets: Any = np.zeros(len(self) + 1, np.int32)
        offsets[1:] = ends
        return pa.StringArray.from_buffers(len(self), pa.py_buffer(offsets), pa.py_buffer(data.data))

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, at: int) -> bytes:
        start = int(self.starts[at])
        return self.data[start : start + int(self.lengths[at])].tobytes()

    def take(self, index: Index) -> Self:
        """The texts of some rows."""
        return type(self)(self.data, self.starts[index], self.lengths[index])

    def where(self, flags: npt.NDArray[np.bool_]) -> Self:
        """The same, with empty texts where a flag is not set."""
        return type(self)(self.data, self.starts, self.lengths * flags)


def any_of(values: Texts, texts: Sequence[bytes]) -> npt.NDArray[np.bool_]:
    """Which values of a column are one of some texts."""
    found = np.zeros(len(values), np.bool_)
    for text in texts:
        rows = np.flatnonzero(values.lengths == len(text))
        if text and len(rows):
            found[rows] |= _windows(values.data, len(text))[values.starts[rows]] == np.void(text)
        else:
            found[rows] = True
    return found


def sometimes(text: bytes, flags: npt.NDArray[np.bool_]) -> Texts:
    """A column that has a text where a flag is set, and else an empty one."""
    # One zero for all rows.
    places = np.broadcast_to(np.int64(0), len(flags))
    return Texts(np.frombuffer(text, np.uint8), places, flags.astype(np.int64) * len(text))


Part: TypeAlias = bytes | Texts
"""What is the same in each row, or a column."""


@dataclass(frozen=True)
class Joined:
    """A column that is other columns and constants side by side, not put together yet.

    Attributes:
        parts: from left to right.
        count: rows.
    """

    parts: Sequence[Part]
    count: int

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Self:
        """The column of some texts."""
        return cls([Texts.of(texts)], len(texts))

    def __len__(self) -> int:
        return self.count

    def lengths(self) -> Numbers:
        """Bytes of each row."""
        return lengths(self.parts, self.count)

    def take(self, index: Index) -> Self:
        """Some of the rows."""
        parts = [part if isinstance(part, bytes) else part.take(index) for part in self.parts]
        return type(self)(parts, len(np.empty(self.count, np.bool_)[index]))

    def packed(self) -> Self:
        """The same rows, put together into one column."""
        data, ends = joined(self.parts, self.count)
        sizes = np.diff(ends, prepend=0)
        return type(self)([Texts(data, ends - sizes, sizes)], self.count)

    def to_list(self) -> list[bytes]:
        """An object for each row."""
        data, ends = joined(self.parts, self.count)
        whole = data.tobytes()
        places = [0, *ends.tolist()]
        return [whole[start:end] for start, end in pairwise(places)]


def lengths(parts: Sequence[Part], count: int) -> Numbers:
    """Bytes that parts have side by side, in each row."""
    total = np.full(count, sum(len(part) for part in parts if isinstance(part, bytes)), np.int64)
    for part in parts:
        if isinstance(part, Texts):
            total += part.lengths
    return total


def joined(parts: Sequence[Part], count: int) -> tuple[Bytes, Numbers]:
    """Put parts side by side, row after row.

    Returns:
        The bytes of all rows, and where each row ends in them.
    """
    ends = np.cumsum(sizes := lengths(parts, count))
    if not count:
        return np.empty(0, np.uint8), ends
    data = np.empty(int(ends[-1]), np.uint8)
    places = ends - sizes
    for part in _merged(parts):
        if isinstance(part, Texts):
            _copy(part, data, places)
            places = places + part.lengths
        elif part:
            _windows(data, len(part))[places] = np.frombuffer(part, f"V{len(part)}")
            places = places + len(part)
    return data, ends


def _merged(parts: Sequence[Part]) -> list[Part]:
    """The same parts; constants side by side are one."""
    merged: list[Part] = []
    for part in parts:
        last = merged[-1] if merged else None
        if isinstance(part, bytes) and isinstance(last, bytes):
            merged[-1] = last + part
        else:
            merged.append(part)
    return merged


def _copy(texts: Texts, data: Bytes, places: Numbers) -> None:
    """Copy each text to its place: short ones of one length in one go, long ones each by itself."""
    lengths, starts = texts.lengths, texts.starts
    is_long = lengths > _LONG
    if is_long.any():
        rows = np.flatnonzero(is_long)
        for place, start, length in zip(
            places[rows].tolist(), starts[rows].tolist(), lengths[rows].tolist(), strict=True
        ):
            data[place : place + length] = texts.data[start : start + length]
        lengths = np.where(is_long, 0, lengths)
    if len(lengths) <= _FEW:
        # There are about as many lengths as texts.
        before = np.cumsum(lengths) - lengths
        bytes_at = np.arange(int(lengths.sum()))
        data[bytes_at + np.repeat(places - before, lengths)] = texts.data[
            bytes_at + np.repeat(starts - before, lengths)
        ]
        return
    counts = np.bincount(lengths)
    for length in np.flatnonzero(counts).tolist():
        if length:
            same = slice(None) if counts[length] == len(lengths) else np.flatnonzero(lengths == length)
            _windows(data, length)[places[same]] = _windows(texts.data, length)[starts[same]]


def _windows(data: Bytes, length: int) -> npt.NDArray[np.void]:
    """All runs of so many bytes, each as one item: it begins where its index says."""
    return np.ndarray((data.size - length + 1,), f"V{length}", data, 0, (1,))
