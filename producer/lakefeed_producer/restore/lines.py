"""Decodes the lines of batch objects into columns.

Lines of one form (those of `lake.lines.to_line`, without white space behind the event) are decoded column by
column, without a Python object for each; any others one by one. Both give the same records.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import orjson

from lakefeed_common.errors import InputError
from lakefeed_common.lake.lines import decode, from_line
from lakefeed_producer.csv.byte_columns import ByteColumn, Bytes, ConcatColumn, Flags, Numbers, concat
from lakefeed_producer.kafka.numbers import varint, varints
from lakefeed_producer.restore.records import Columns, encode_headers

_COMMA, _QUOTE, _MINUS, _BRACKET, _BRACE, _PAD = b',"-]}='
# Looking behind the last line's end, as far as the longest number, is not out of bounds.
_MARGIN = b"\n" * 32
# More digits than this may not fit into 64 bits.
_MAX_DIGITS = 18
_INVALID = 0xFF
_BASE64 = np.full(256, _INVALID, np.uint8)
_BASE64[np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)] = range(
    64
)
_BASE64[_PAD] = 0


class _OtherFormError(Exception):
    """The lines are not of the usual form."""


def decode_lines(topic: str, partition: int, lines: bytes) -> Columns:
    """The records of some whole lines.

    Raises:
        InputError: a line is damaged, or of another partition.
    """
    try:
        return _Lines(partition, lines).columns()
    except _OtherFormError:
        return decode_each(topic, partition, lines)


def decode_each(topic: str, partition: int, lines: bytes) -> Columns:
    """The records of some whole lines of any form, one by one."""
    records = [from_line(topic, line) for line in lines[:-1].split(b"\n")]
    for record in records:
        if record.partition.number != partition:
            raise InputError(
                f"it has a record of partition {record.partition.number} among those of {partition}"
            )
    return Columns.of(partition, records)


@dataclass
class _Cursor:
    """A position in each line, which moves to the right."""

    data: Bytes
    at: Numbers

    def has(self, text: bytes) -> Flags:
        """Whether a text follows in each line."""
        found = np.ones(len(self.at), np.bool_)
        for place, byte in enumerate(text):
            found &= self.data[self.at + place] == byte
        return found

    def expect(self, text: bytes) -> None:
        """Move behind a text that must follow in each line."""
        if not self.has(text).all():
            raise _OtherFormError
        self.at = self.at + len(text)

    def number(self) -> Numbers:
        """Read a decimal number, and move behind it."""
        is_negative = self.data[self.at] == _MINUS
        self.at = self.at + is_negative
        value = np.zeros(len(self.at), np.int64)
        width = np.zeros(len(self.at), np.int64)
        is_digit = np.ones(len(self.at), np.bool_)
        for place in range(_MAX_DIGITS + 1):
            digit = self.data[self.at + place] - np.uint8(ord("0"))
            is_digit &= digit <= 9
            if not is_digit.any():
                break
            value = np.where(is_digit, 10 * value + digit, value)
            width += is_digit
        else:
            raise _OtherFormError
        if not width.all():
            raise _OtherFormError
        self.at = self.at + width
        return np.where(is_negative, -value, value)


class _Lines:
    """Whole lines of one partition."""

    def __init__(self, partition: int, lines: bytes) -> None:
        self._partition = partition
        self._lines = lines
        self._data = np.frombuffer(lines + _MARGIN, np.uint8)
        self._ends = np.flatnonzero(self._data[: len(lines)] == ord("\n"))
        self._quotes = np.flatnonzero(self._data == _QUOTE)

    def columns(self) -> Columns:
        """Decode all.

        Raises:
            _OtherFormError: they are not of the usual form.
        """
        marks, cursor = self._find_marks()
        offsets = cursor.number()
        cursor.expect(b',"t":')
        timestamps = cursor.number()
        has_key, keys = self._keys(cursor)
        headers, counts = self._headers(cursor)
        cursor.expect(b"}}\n")
        if not np.array_equal(cursor.at, self._ends + 1):
            raise _OtherFormError
        return Columns(
            self._partition, offsets, timestamps, keys, has_key, self._values(marks), headers, counts
        )

    def _find_marks(self) -> tuple[Numbers, _Cursor]:
        """Where each line's metadata begins."""
        mark = b'"_kafka":{"p":%d,"o":' % self._partition
        pieces = self._lines.split(mark)
        # An event may have such a key in one of its values.
        if not len(self._ends) or len(pieces) != len(self._ends) + 1:
            raise _OtherFormError
        sizes = np.fromiter(map(len, pieces[:-1]), np.int64, len(self._ends))
        marks = np.cumsum(sizes + len(mark)) - len(mark)
        if (marks <= self._starts()).any() or (marks >= self._ends).any():
            raise _OtherFormError
        return marks, _Cursor(self._data, marks + len(mark))

    def _starts(self) -> Numbers:
        return np.concatenate([[0], self._ends[:-1] + 1])

    def _values(self, marks: Numbers) -> ConcatColumn:
        starts = self._starts()
        lengths = marks - starts - (self._data[marks - 1] == _COMMA)
        return ConcatColumn([ByteColumn(self._data, starts, lengths), b"}"], len(marks))

    def _keys(self, cursor: _Cursor) -> tuple[Flags, ByteColumn]:
        begin = b',"k":"'
        has_key = cursor.has(begin)
        starts = cursor.at + len(begin)
        ends = np.where(has_key, self._quote_from(starts), starts)
        cursor.at = np.where(has_key, ends + 1, cursor.at)
        return has_key, _from_base64(ByteColumn(self._data, starts, ends - starts))

    def _headers(self, cursor: _Cursor) -> tuple[ByteColumn, Numbers]:
        begin = b',"h":['
        has_headers = cursor.has(begin)
        starts = cursor.at + len(begin)
        ends = np.where(has_headers, self._ends - 3, starts)
        if (has_headers & ((self._data[ends] != _BRACKET) | (ends < starts))).any():
            raise _OtherFormError
        cursor.at = np.where(has_headers, ends + 1, cursor.at)
        if has_headers.all() and (found := self._headers_alike(starts, ends)) is not None:
            return found
        texts = [self._lines[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        encoded = [_encoded(text) for text in texts]
        counts = np.fromiter((count for _, count in encoded), np.int64, len(encoded))
        return ByteColumn.of([data for data, _ in encoded]), counts

    def _headers_alike(self, starts: Numbers, ends: Numbers) -> tuple[ByteColumn, Numbers] | None:
        """Headers that differ in the value of the last one only, such as `row`; None for any others."""
        if (self._data[ends - 1] != _BRACKET).any() or (self._data[ends - 2] != _QUOTE).any():
            return None
        before = np.searchsorted(self._quotes, ends - 2) - 1
        values = self._quotes[before] + 1
        size = int(values[0] - starts[0])
        if (values - starts != size).any() or (values <= starts).any():
            return None
        windows = np.ndarray((self._data.size - size + 1,), f"V{size}", self._data, 0, (1,))
        if (windows[starts] != windows[starts[0]]).any():
            return None
        same, count = _common_headers(self._lines[int(starts[0]) : int(values[0])])
        last = _from_base64(ByteColumn(self._data, values, ends - 2 - values))
        data, places = concat([same, varints(2 * last.lengths), last], len(starts))
        sizes = np.diff(places, prepend=0)
        return ByteColumn(data, places - sizes, sizes), np.full(len(starts), count)

    def _quote_from(self, places: Numbers) -> Numbers:
        """The first quotation mark at or after each place."""
        found = np.searchsorted(self._quotes, places)
        return self._quotes[np.minimum(found, len(self._quotes) - 1)]


def _from_base64(texts: ByteColumn) -> ByteColumn:
    """Decode texts, each padded.

    Raises:
        _OtherFormError: one of them is not base64.
    """
    lengths = texts.lengths
    if (lengths % 4).any() or (lengths < 0).any():
        raise _OtherFormError
    chars, ends = concat([texts], len(texts))
    if not len(chars):
        return ByteColumn(chars, np.zeros(len(texts), np.int64), lengths)
    sixths = _BASE64[chars].reshape(-1, 4)
    groups = np.empty((len(sixths), 3), np.uint8)
    groups[:, 0] = sixths[:, 0] << 2 | sixths[:, 1] >> 4
    groups[:, 1] = sixths[:, 1] << 4 | sixths[:, 2] >> 2
    groups[:, 2] = sixths[:, 2] << 6 | sixths[:, 3]
    is_pad = chars == _PAD
    last = np.maximum(ends - 1, 0)
    pads = (lengths > 0) * (is_pad[last] + (is_pad[last] & is_pad[last - 1]).astype(np.int64))
    if (sixths == _INVALID).any() or int(pads.sum()) != int(is_pad.sum()):
        raise _OtherFormError
    return ByteColumn(groups.reshape(-1), (ends - lengths) // 4 * 3, lengths // 4 * 3 - pads)


@lru_cache(maxsize=64)
def _common_headers(text: bytes) -> tuple[bytes, int]:
    """The JSON of headers up to the last one's value, encoded up to its size; and their number."""
    try:
        *others, (name, _) = _pairs(text + b'"]')
    except (TypeError, ValueError) as error:
        raise _OtherFormError from error
    encoded = name.encode()
    return encode_headers(others) + varint(2 * len(encoded)) + encoded, len(others) + 1


@lru_cache(maxsize=1024)
def _encoded(text: bytes) -> tuple[bytes, int]:
    """The JSON of headers, encoded; and their number."""
    try:
        pairs = _pairs(text)
    except (TypeError, ValueError) as error:
        raise _OtherFormError from error
    return encode_headers(pairs), len(pairs)


def _pairs(text: bytes) -> list[tuple[str, bytes | None]]:
    return [(str(name), decode(value)) for name, value in orjson.loads(b"[" + text + b"]")]
