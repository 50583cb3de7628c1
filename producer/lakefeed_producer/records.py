"""Splits the bytes of a CSV file into records: exact, in bounded memory, vectorised.

pandas reads the fields; this module only finds where records begin and end, on which line, and
with how many fields, so that a row that pandas would stumble over can be put aside with its line
number and its raw text.

The grammar is that of RFC 4180 with these decisions:

- A record ends at LF, CRLF or a lone CR outside quotes. Empty lines are no records.
- A quote opens a quoted field only as the field's first byte; elsewhere in an unquoted field it
  is a character like any other (`5" disk`).
- A quoted field ends at its closing quote, and a delimiter or the line's end must follow. Text
  after it, or no closing quote at all, is a fault of the record. A faulty record is taken to end
  with its first line, and reading goes on behind it, so that one stray quote costs one row and
  cannot swallow those that follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

_LF, _CR, _QUOTE = 10, 13, 34
LINE_END = re.compile(rb"\r\n|\r|\n")
# Of a row that is too long to be held, this much goes to the rejects.
KEPT_OF_LONG_ROW = 64 << 10

Positions = npt.NDArray[np.int64]


class Fault(StrEnum):
    """Why the bytes of a record are no CSV row."""

    OPEN_QUOTE = "a quote opens a field and is not closed"
    AFTER_QUOTE = "there is text between a closing quote and the next delimiter"
    TOO_LONG = "the row is longer than the limit"


@dataclass(frozen=True)
class Block:
    """Consecutive records of a file.

    Attributes:
        data: bytes that hold all of them.
        starts, ends: byte range of each record in `data`, without its line end.
        fields: number of fields of each record.
        delimiters: where in all of `data` the delimiter is, inside quotes or not.
        lines: 1-based line of the file on which each record starts.
        faults: what is wrong with a record, by its index; `fields` of it means nothing.
    """

    data: bytes
    starts: Positions
    ends: Positions
    fields: Positions
    delimiters: Positions
    lines: Positions
    faults: dict[int, Fault]

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def span(self) -> tuple[int, int]:
        """Where in `data` the records begin and end, with what is between them."""
        return (int(self.starts[0]), int(self.ends[-1])) if len(self) else (0, 0)

    def contains(self, byte: bytes) -> bool:
        """Whether a byte is in any of the records, or between them."""
        return self.data.find(byte, *self.span) >= 0

    def is_plain(self, delimiter: str) -> bool:
        """Whether there is nothing in the values that JSON escapes."""
        if self.contains(b'"') or self.contains(b"\\"):
            return False
        array = np.frombuffer(self.data, np.uint8)[slice(*self.span)]
        # To look for a byte costs a tenth of counting it.
        between = [one for one in {b"\n", b"\r", delimiter.encode()} if one < b" " and self.contains(one)]
        controls = sum(np.count_nonzero(array == ord(one)) for one in between)
        return bool(np.count_nonzero(array < ord(" ")) == controls)

    def part(self, begin: int, end: int) -> Block:
        """The records from one index to before another."""
        return replace(
            self,
            starts=self.starts[begin:end],
            ends=self.ends[begin:end],
            fields=self.fields[begin:end],
            lines=self.lines[begin:end],
            faults={index - begin: fault for index, fault in self.faults.items() if begin <= index < end},
        )

    def without_fields(self) -> Block:
        """All but fields and delimiters, which nobody needs while it is held for a while."""
        none = np.zeros(0, np.int64)
        return replace(self, fields=none, delimiters=none)

    def raw(self, index: int) -> bytes:
        """The bytes of one record, without its line end."""
        return self.data[self.starts[index] : self.ends[index]]


def split(
    chunks: Iterable[bytes], delimiter: bytes, max_row_bytes: int, first_line: int = 1
) -> Iterator[Block]:
    """Yield the records of a file that comes in chunks of any size, from its line `first_line` on.

    Holds one chunk and at most `max_row_bytes` more.
    """
    splitter = _Splitter(delimiter, max_row_bytes, first_line)
    for chunk in chunks:
        yield from splitter.feed(chunk)
    yield from splitter.finish()


@dataclass
class _Found:
    """What a careful look at some bytes found: lists of what Block holds as arrays."""

    starts: list[int]
    ends: list[int]
    fields: list[int]
    faults: dict[int, Fault]
    used: int


class _Splitter:
    def __init__(self, delimiter: bytes, max_row_bytes: int, first_line: int) -> None:
        self._delimiter = delimiter[0]
        self._limit = max_row_bytes
        self._rest = b""
        self._line = first_line
        self._in_long_row = False
        d = re.escape(delimiter)
        self._field = re.compile(
            rb'(?:"[^"]*+(?:""[^"]*+)*+"|(?!")[^%b\r\n]*+)(%b|\r\n|\n|\r|\Z)' % (d, d), re.DOTALL
        )
        self._quoted = re.compile(rb'"[^"]*+(?:""[^"]*+)*+"')

    def feed(self, chunk: bytes) -> Iterator[Block]:
        data = self._rest + chunk if self._rest else chunk
        self._rest = b""
        if self._in_long_row:
            data = self._behind_long_row(data)
        yield from self._blocks(data, final=False)
        while len(self._rest) > self._limit and not self._in_long_row:
            yield from self._overflow()

    def finish(self) -> Iterator[Block]:
        data, self._rest = self._rest, b""
        if not self._in_long_row:
            yield from self._blocks(data, final=True)

    # ---- rows over the limit ----------------------------------------------------------------

    def _overflow(self) -> Iterator[Block]:
        """The rest has grown over the limit without the end of its first record in sight."""
        data, self._rest = self._rest, b""
        end = LINE_END.search(data)
        if end is None or end.end() > self._limit:
            yield self._single(data, KEPT_OF_LONG_ROW, Fault.TOO_LONG)
            self._in_long_row = True
            data = self._behind_long_row(data)
        else:
            yield self._single(data, end.start(), Fault.OPEN_QUOTE)
            self._line += 1
            data = data[end.end() :]
        yield from self._blocks(data, final=False)

    def _single(self, data: bytes, end: int, fault: Fault) -> Block:
        return Block(
            data[:end],
            np.zeros(1, np.int64),
            np.array([end], np.int64),
            np.zeros(1, np.int64),
            np.zeros(0, np.int64),
            np.array([self._line], np.int64),
            {0: fault},
        )

    def _behind_long_row(self, data: bytes) -> bytes:
        """What follows the end of the line, if that is in the data already."""
        end = LINE_END.search(data)
        if end is None:
            return b""
        if end.group() == b"\r" and end.end() == len(data):
            self._rest = b"\r"  # half of a CRLF, perhaps
            return b""
        self._in_long_row = False
        self._line += 1
        return data[end.end() :]

    # ---- blocks -----------------------------------------------------------------------------

    def _blocks(self, data: bytes, *, final: bool) -> Iterator[Block]:
        """Split what can be split; the rest is kept for the next chunk."""
        if not data:
            return
        array = np.frombuffer(data, np.uint8)
        all_breaks = breaks = self._breaks(data, array, final)
        clean = len(data)
        all_delimiters = delimiters = np.flatnonzero(array == self._delimiter)
        if b'"' in data:
            outside = np.bitwise_xor.accumulate((array == _QUOTE).view(np.uint8)) == 0
            clean = self._first_irregular(array, outside, final)
            breaks = breaks[outside[breaks]]
            delimiters = delimiters[outside[delimiters]]
        breaks = breaks[: np.searchsorted(breaks, clean)]

        starts = np.concatenate(([0], breaks[:-1] + 1)) if len(breaks) else np.zeros(0, np.int64)
        ends = breaks
        used = int(breaks[-1]) + 1 if len(breaks) else 0
        if final and clean == len(data) and used < len(data):
            starts, ends = np.append(starts, used), np.append(ends, len(data))
            used = len(data)
        fields = np.diff(np.searchsorted(delimiters, np.append(starts, used))) + 1
        ends = _without_cr(array, starts, ends)
        faults: dict[int, Fault] = {}
        if clean < len(data):
            found = self._careful(data, used, final)
            faults = {len(starts) + index: fault for index, fault in found.faults.items()}
            starts = np.concatenate((starts, np.array(found.starts, np.int64)))
            ends = np.concatenate((ends, np.array(found.ends, np.int64)))
            fields = np.concatenate((fields, np.array(found.fields, np.int64)))
            used = found.used
        lines = self._line + np.searchsorted(all_breaks, starts)
        self._line += int(np.searchsorted(all_breaks, used))
        self._rest = data[used:]
        for index in np.flatnonzero(ends - starts > self._limit):
            faults.setdefault(int(index), Fault.TOO_LONG)
        block = _without_empty(Block(data, starts, ends, fields, all_delimiters, lines, faults))
        if len(block):
            yield block

    @staticmethod
    def _breaks(data: bytes, array: npt.NDArray[np.uint8], final: bool) -> Positions:
        """Last byte of each line end, inside quotes or not: every LF, every CR without an LF behind it."""
        breaks = np.flatnonzero(array == _LF)
        if b"\r" in data:
            returns = np.flatnonzero(array == _CR)
            last = len(array) - 1
            lone = returns[(returns == last) | (array[np.minimum(returns + 1, last)] != _LF)]
            if not final and len(lone) and lone[-1] == last:
                lone = lone[:-1]  # its LF may come with the next chunk
            if len(lone):
                breaks = np.union1d(breaks, lone)
        return breaks

    def _first_irregular(
        self, array: npt.NDArray[np.uint8], outside: npt.NDArray[np.bool_], final: bool
    ) -> int:
        """Position of the first quote that is not where RFC 4180 has one; the length if none.

        Up to there, counting quotes tells truly what is inside of them and what is outside.
        """
        last = len(array) - 1
        quotes = np.flatnonzero(array == _QUOTE)
        opening, closing = quotes[0::2], quotes[1::2]
        before = array[np.maximum(opening - 1, 0)]
        after = array[np.minimum(closing + 1, last)]
        wrong_opening = opening[(opening > 0) & ~self._may_border(before)]
        wrong_closing = closing[(closing < last) & ~self._may_border(after)]
        irregular = [int(found[0]) for found in (wrong_opening, wrong_closing) if len(found)]
        if final and not outside[-1]:
            irregular.append(int(opening[-1]))
        return min(irregular, default=len(array))

    def _may_border(self, values: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        return np.isin(values, (self._delimiter, _LF, _CR, _QUOTE))

    # ---- the exact way, for bytes with irregular quotes ---------------------------------------

    def _careful(self, data: bytes, start: int, final: bool) -> _Found:
        found = _Found([], [], [], {}, start)
        while found.used < len(data):
            step = self._record(data, found.used, final)
            if step is None:
                break
            end, following, fields, fault = step
            if fault is not None:
                found.faults[len(found.starts)] = fault
            found.starts.append(found.used)
            found.ends.append(end)
            found.fields.append(fields)
            found.used = following
        return found

    def _record(self, data: bytes, start: int, final: bool) -> tuple[int, int, int, Fault | None] | None:
        """End, start of the next, fields and fault of one record; None if its end is not there yet."""
        position, fields = start, 0
        while True:
            match = self._field.match(data, position)
            if match is None:
                return self._faulty(data, start, position, final)
            fields += 1
            position = match.end()
            separator = match.group(1)
            unsure = position == len(data) and separator != b"\n" and separator != b"\r\n"
            if unsure and not final:
                return None
            if separator[:1] in (b"\r", b"\n", b""):
                return match.start(1), position, fields, None

    def _faulty(
        self, data: bytes, start: int, position: int, final: bool
    ) -> tuple[int, int, int, Fault | None] | None:
        """What `_record` returns for a record with a wrong quoted field at `position`."""
        closed = self._quoted.match(data, position)
        if not final and (closed is None or closed.end() == len(data)):
            return None
        fault = Fault.OPEN_QUOTE if closed is None else Fault.AFTER_QUOTE
        line_end = LINE_END.search(data, start)
        if line_end is None:
            return (len(data), len(data), 0, fault) if final else None
        if not final and line_end.end() == len(data) and line_end.group() == b"\r":
            return None
        return line_end.start(), line_end.end(), 0, fault


def _without_cr(array: npt.NDArray[np.uint8], starts: Positions, ends: Positions) -> Positions:
    """Leave the CR of a CRLF out of the records."""
    if not len(ends):
        return ends
    crlf = (ends > starts) & (array[np.minimum(ends, len(array) - 1)] == _LF)
    crlf &= array[np.maximum(ends - 1, 0)] == _CR
    trimmed: Positions = ends - crlf
    return trimmed


def _without_empty(block: Block) -> Block:
    keep = block.starts < block.ends
    if keep.all():
        return block
    index = np.cumsum(keep) - 1
    return replace(
        block,
        starts=block.starts[keep],
        ends=block.ends[keep],
        fields=block.fields[keep],
        lines=block.lines[keep],
        faults={int(index[old]): fault for old, fault in block.faults.items()},
    )
