"""Splits the bytes of a CSV file into records: exact, vectorized, in bounded memory.

It finds where records and fields start and end, and on which line, so that a malformed row can be
rejected with its line number and its raw text.

The grammar is that of RFC 4180 with these decisions:

- A record ends at LF, CRLF or a lone CR outside quotes. Empty lines are not records.
- A quote opens a quoted field only as the field's first byte; elsewhere in an unquoted field it
  is a character like any other (`5" disk`).
- A quoted field ends at its closing quote, which a delimiter or the line's end must follow. Text
  after it, or a missing closing quote, makes the record faulty. A faulty record ends with its
  first line, and reading resumes after it, so that a stray quote costs one row and cannot swallow
  the rows that follow.

Without quoting, quotes are ordinary characters and a record is a line.
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
# How much of a row over the limit is kept for its reject.
KEPT_OF_LONG_ROW = 64 << 10

Positions = npt.NDArray[np.int64]


class Fault(StrEnum):
    """Why the bytes of a record are not a CSV row."""

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
        delimiters: positions in `data` of the delimiters between the fields of records without faults.
        lines: 1-based line of the file on which each record starts.
        faults: what is wrong with a record, by its index; its `fields` has no meaning.
        quoted: whether a quote may open a field.
        lines_in_quotes: lines that continue a record from an earlier line.
        rows_in_quotes: those of them that have as many delimiters as the record has between its fields, as if
            each were a row of its own, in records most of whose lines have.
    """

    data: bytes
    starts: Positions
    ends: Positions
    fields: Positions
    delimiters: Positions
    lines: Positions
    faults: dict[int, Fault]
    quoted: bool = True
    lines_in_quotes: int = 0
    rows_in_quotes: int = 0

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def span(self) -> tuple[int, int]:
        """The range of `data` from the first record to the last."""
        return (int(self.starts[0]), int(self.ends[-1])) if len(self) else (0, 0)

    def contains(self, byte: bytes) -> bool:
        """Whether a byte occurs in the records, or between them."""
        return self.data.find(byte, *self.span) >= 0

    def is_plain(self, delimiter: str) -> bool:
        """Whether no value has a character that JSON escapes."""
        if self.contains(b'"') or self.contains(b"\\"):
            return False
        array = np.frombuffer(self.data, np.uint8)[slice(*self.span)]
        # Finding a byte costs a tenth of counting it.
        between = [one for one in {b"\n", b"\r", delimiter.encode()} if one < b" " and self.contains(one)]
        controls = sum(np.count_nonzero(array == ord(one)) for one in between)
        return bool(np.count_nonzero(array < ord(" ")) == controls)

    def part(self, begin: int, end: int) -> Block:
        """The records of an index range."""
        return replace(
            self,
            starts=self.starts[begin:end],
            ends=self.ends[begin:end],
            fields=self.fields[begin:end],
            lines=self.lines[begin:end],
            faults={index - begin: fault for index, fault in self.faults.items() if begin <= index < end},
        )

    def without_fields(self) -> Block:
        """Drop fields and delimiters, which only parsing needs, before the block is kept for long."""
        none = np.zeros(0, np.int64)
        return replace(self, fields=none, delimiters=none)

    def raw(self, index: int) -> bytes:
        """The bytes of one record, without its line end."""
        return self.data[self.starts[index] : self.ends[index]]


def split(
    chunks: Iterable[bytes], delimiter: bytes, max_row_bytes: int, *, quoted: bool = True, first_line: int = 1
) -> Iterator[Block]:
    """Yield the records of a file that is read in chunks of any size.

    Keeps one chunk and at most `max_row_bytes` more in memory.

    Args:
        chunks: the file's bytes.
        delimiter: one byte.
        max_row_bytes: a longer record is a fault.
        quoted: whether a quote may open a field; if not, it is an ordinary character.
        first_line: number of the first line in `chunks`.
    """
    splitter = _Splitter(delimiter, max_row_bytes, first_line, quoted=quoted)
    for chunk in chunks:
        yield from splitter.feed(chunk)
    yield from splitter.finish()


@dataclass
class _Parsed:
    """Records that the exact parser found: lists of what Block has as arrays."""

    starts: list[int]
    ends: list[int]
    fields: list[int]
    delimiters: list[int]
    faults: dict[int, Fault]
    used: int


class _Splitter:
    def __init__(self, delimiter: bytes, max_row_bytes: int, first_line: int, *, quoted: bool) -> None:
        self._delimiter = delimiter[0]
        self._limit = max_row_bytes
        self._is_quoted = quoted
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
            data = self._after_long_row(data)
        yield from self._blocks(data, final=False)
        while len(self._rest) > self._limit and not self._in_long_row:
            yield from self._overflow()

    def finish(self) -> Iterator[Block]:
        data, self._rest = self._rest, b""
        if not self._in_long_row:
            yield from self._blocks(data, final=True)

    def _overflow(self) -> Iterator[Block]:
        """Handle a rest that exceeds the limit and does not contain the end of its first record."""
        data, self._rest = self._rest, b""
        end = LINE_END.search(data)
        if end is None or end.end() > self._limit:
            yield self._single(data, KEPT_OF_LONG_ROW, Fault.TOO_LONG)
            self._in_long_row = True
            data = self._after_long_row(data)
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
            self._is_quoted,
        )

    def _after_long_row(self, data: bytes) -> bytes:
        """What follows the end of the long row; empty while that end has not been read."""
        end = LINE_END.search(data)
        if end is None:
            return b""
        if end.group() == b"\r" and end.end() == len(data):
            self._rest = b"\r"  # possibly half of a CRLF
            return b""
        self._in_long_row = False
        self._line += 1
        return data[end.end() :]

    def _blocks(self, data: bytes, *, final: bool) -> Iterator[Block]:
        """Split the complete records; the rest is kept for the next chunk."""
        if not data:
            return
        array = np.frombuffer(data, np.uint8)
        all_breaks = breaks = self._breaks(data, array, final=final)
        clean = len(data)
        all_delimiters = delimiters = np.flatnonzero(array == self._delimiter)
        has_quotes = self._is_quoted and b'"' in data
        if has_quotes:
            outside = np.bitwise_xor.accumulate((array == _QUOTE).view(np.uint8)) == 0
            clean = self._first_irregular(array, outside, final=final)
            breaks = breaks[outside[breaks]]
            delimiters = delimiters[outside[delimiters]]
        breaks = breaks[: np.searchsorted(breaks, clean)]

        starts = np.concatenate(([0], breaks[:-1] + 1)) if len(breaks) else np.zeros(0, np.int64)
        ends = breaks
        used = int(breaks[-1]) + 1 if len(breaks) else 0
        if final and clean == len(data) and used < len(data):
            starts, ends = np.append(starts, used), np.append(ends, len(data))
            used = len(data)
        delimiters = delimiters[: np.searchsorted(delimiters, used)]
        fields = np.diff(np.searchsorted(delimiters, np.append(starts, used))) + 1
        ends = _without_cr(array, starts, ends)
        faults: dict[int, Fault] = {}
        if clean < len(data):
            found = self._parse_exactly(data, used, final=final)
            faults = {len(starts) + index: fault for index, fault in found.faults.items()}
            starts = np.concatenate((starts, np.array(found.starts, np.int64)))
            ends = np.concatenate((ends, np.array(found.ends, np.int64)))
            fields = np.concatenate((fields, np.array(found.fields, np.int64)))
            delimiters = np.concatenate((delimiters, np.array(found.delimiters, np.int64)))
            used = found.used
        lines = self._line + np.searchsorted(all_breaks, starts)
        self._line += int(np.searchsorted(all_breaks, used))
        self._rest = data[used:]
        for index in np.flatnonzero(ends - starts > self._limit):
            faults.setdefault(int(index), Fault.TOO_LONG)
        inside = (0, 0)
        if has_quotes:
            inside = _in_quotes(all_breaks, all_delimiters, starts, fields, used)
        block = _without_empty(
            Block(data, starts, ends, fields, delimiters, lines, faults, self._is_quoted, *inside)
        )
        if len(block):
            yield block

    @staticmethod
    def _breaks(data: bytes, array: npt.NDArray[np.uint8], *, final: bool) -> Positions:
        """Last byte of each line end, inside quotes or not: every LF, and every CR that no LF follows."""
        breaks = np.flatnonzero(array == _LF)
        if b"\r" in data:
            returns = np.flatnonzero(array == _CR)
            last = len(array) - 1
            lone = returns[(returns == last) | (array[np.minimum(returns + 1, last)] != _LF)]
            if not final and len(lone) and lone[-1] == last:
                lone = lone[:-1]  # its LF may be in the next chunk
            if len(lone):
                breaks = np.union1d(breaks, lone)
        return breaks

    def _first_irregular(
        self, array: npt.NDArray[np.uint8], outside: npt.NDArray[np.bool_], *, final: bool
    ) -> int:
        """Position of the first quote that RFC 4180 does not allow there; the length if there is none.

        Before it, the parity of the quotes shows what is inside quotes and what is outside.
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

    def _parse_exactly(self, data: bytes, start: int, *, final: bool) -> _Parsed:
        found = _Parsed([], [], [], [], {}, start)
        while found.used < len(data):
            step = self._record(data, found.used, final=final)
            if step is None:
                break
            end, following, delimiters, fault = step
            if fault is not None:
                found.faults[len(found.starts)] = fault
            found.starts.append(found.used)
            found.ends.append(end)
            found.fields.append(len(delimiters) + 1 if fault is None else 0)
            found.delimiters += delimiters
            found.used = following
        return found

    def _record(
        self, data: bytes, start: int, *, final: bool
    ) -> tuple[int, int, list[int], Fault | None] | None:
        """End, start of the next, delimiters and fault of a record; None if its end has not been read."""
        position = start
        delimiters: list[int] = []
        while True:
            match = self._field.match(data, position)
            if match is None:
                return self._faulty(data, start, position, final=final)
            position = match.end()
            separator = match.group(1)
            may_continue = position == len(data) and separator != b"\n" and separator != b"\r\n"
            if may_continue and not final:
                return None
            if separator[:1] in (b"\r", b"\n", b""):
                return match.start(1), position, delimiters, None
            delimiters.append(match.start(1))

    def _faulty(
        self, data: bytes, start: int, position: int, *, final: bool
    ) -> tuple[int, int, list[int], Fault | None] | None:
        """The result of `_record` for a record with a malformed quoted field at `position`."""
        closed = self._quoted.match(data, position)
        if not final and (closed is None or closed.end() == len(data)):
            return None
        fault = Fault.OPEN_QUOTE if closed is None else Fault.AFTER_QUOTE
        line_end = LINE_END.search(data, start)
        if line_end is None:
            return (len(data), len(data), [], fault) if final else None
        if not final and line_end.end() == len(data) and line_end.group() == b"\r":
            return None
        return line_end.start(), line_end.end(), [], fault


def _in_quotes(
    breaks: Positions, delimiters: Positions, starts: Positions, fields: Positions, used: int
) -> tuple[int, int]:
    """Count `lines_in_quotes` and `rows_in_quotes` of a block."""
    lines = np.concatenate(([0], breaks[: np.searchsorted(breaks, used - 1)] + 1))
    if len(lines) == len(starts) or not len(starts):
        return 0, 0
    first = np.searchsorted(lines, starts)
    more = np.diff(np.append(first, len(lines))) - 1
    on_line = np.diff(np.searchsorted(delimiters, np.append(lines, used)))
    between = fields - 1
    # Among the rows that a quote swallows there may be empty lines and irregular ones.
    like_rows = np.add.reduceat(on_line == np.repeat(between, more + 1), first, dtype=np.int64)
    swallowing = (between > 0) & (more > 0) & (2 * like_rows > more + 1)
    return int(more.sum()), int((like_rows - 1)[swallowing].sum())


def _without_cr(array: npt.NDArray[np.uint8], starts: Positions, ends: Positions) -> Positions:
    """Exclude the CR of a CRLF from the records."""
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
