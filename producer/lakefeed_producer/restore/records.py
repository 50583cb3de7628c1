"""Records of one partition as columns, and their encoding as Kafka's record batches, as they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from lakefeed_common.lake.records import Record
from lakefeed_producer.csv.byte_columns import (
    ByteColumn,
    ConcatColumn,
    Index,
    Numbers,
    Part,
    concat,
    total_lengths,
)
from lakefeed_producer.kafka.numbers import digits, varint, varints
from lakefeed_producer.kafka.record_batches import BATCH_BYTES, BatchPart, RecordBatch

ORIGIN_HEADER = "lakefeed-origin"
"""The header that is added to each record: `topic/partition/offset` of where it was."""

# Upper bound of a record's size without key, value, headers and origin: length, timestamp, offset, sizes.
_OVERHEAD = 6 * 5 + 10 + 1


@dataclass(frozen=True)
class Columns:
    """Consecutive records of one partition, ascending by offset.

    Attributes:
        partition: its number.
        offsets, timestamps: of each record; timestamps in milliseconds since 1970.
        keys, has_key: a record without a key is not one with an empty key.
        values: the values.
        headers, header_counts: of each record, encoded as in a record batch, without their number.
    """

    partition: int
    offsets: Numbers
    timestamps: Numbers
    keys: ByteColumn
    has_key: Index
    values: ConcatColumn
    headers: ByteColumn
    header_counts: Numbers

    @classmethod
    def of(cls, partition: int, records: Sequence[Record]) -> Self:
        """The columns of some records that have values."""
        count = len(records)
        return cls(
            partition,
            np.fromiter((record.offset for record in records), np.int64, count),
            np.fromiter((record.timestamp_ms for record in records), np.int64, count),
            ByteColumn.of([record.key or b"" for record in records]),
            np.fromiter((record.key is not None for record in records), np.bool_, count),
            ConcatColumn.of([record.value or b"" for record in records]),
            ByteColumn.of([encode_headers(record.headers) for record in records]),
            np.fromiter((len(record.headers) for record in records), np.int64, count),
        )

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, index: slice) -> Self:
        """Some of the records."""
        return type(self)(
            self.partition,
            self.offsets[index],
            self.timestamps[index],
            self.keys.take(index),
            self.has_key[index],  # type: ignore[index]
            self.values.take(index),
            self.headers.take(index),
            self.header_counts[index],
        )

    def since(self, offset: int) -> Self:
        """The records from an offset on."""
        first = int(np.searchsorted(self.offsets, offset))
        return self.take(slice(first, len(self))) if first else self


def encode_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    """Headers as in a record batch, without their number."""
    parts = []
    for name, value in headers:
        text = name.encode()
        parts += [varint(2 * len(text)), text]
        parts += [b"\x01"] if value is None else [varint(2 * len(value)), value]
    return b"".join(parts)


def origin(topic: str, partition: int, offset: int) -> bytes:
    """The value of the header `lakefeed-origin`."""
    return f"{topic}/{partition}/{offset}".encode()


class Encoder:
    """Encodes records as record batches, each with the header `lakefeed-origin`.

    Args:
        topic: the topic that they are from.
        compression: name of the codec.
        max_message_bytes: size of the largest record batch that the target accepts.
    """

    def __init__(self, topic: str, compression: str, max_message_bytes: int) -> None:
        self._topic = topic
        self._compression = compression
        self._limit = min(max_message_bytes, BATCH_BYTES)

    def encode(self, columns: Columns) -> Iterator[tuple[RecordBatch, Columns]]:
        """Encode records in record batches that fit, in order, with the records of each."""
        constant = self._origin(columns.partition)
        sizes = columns.values.lengths() + columns.keys.lengths + columns.headers.lengths
        ends = np.cumsum(sizes + (len(constant) + 20 + _OVERHEAD))
        begin = 0
        while begin < len(columns):
            before = int(ends[begin - 1]) if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, before + self._limit - 61, "right")))
            some = columns.take(slice(begin, end))
            yield self._record_batch(some), some
            begin = end

    def _record_batch(self, columns: Columns) -> RecordBatch:
        count = len(columns)

        def halves() -> tuple[RecordBatch, RecordBatch]:
            middle = count // 2
            first, second = columns.take(slice(0, middle)), columns.take(slice(middle, count))
            return self._record_batch(first), self._record_batch(second)

        parts = self._parts(columns)
        sizes = varints(2 * total_lengths(parts, count))
        records, _ = concat([sizes, *parts], count)
        first_ms, max_ms = int(columns.timestamps[0]), int(columns.timestamps.max())
        part = BatchPart(columns.partition, slice(0, count))
        return RecordBatch(part, self._compression, first_ms, max_ms, records, halves)

    def _parts(self, columns: Columns) -> list[Part]:
        """What follows the length of each record, from left to right."""
        offsets = digits(columns.offsets)
        constant = self._origin(columns.partition)
        return [
            b"\0",
            varints(_zigzag(columns.timestamps - columns.timestamps[0])),
            varints(2 * np.arange(len(columns))),
            varints(np.where(columns.has_key, 2 * columns.keys.lengths, 1)),  # type: ignore[arg-type]
            columns.keys,
            varints(2 * columns.values.lengths()),
            *columns.values.parts,
            varints(2 * (columns.header_counts + 1)),
            columns.headers,
            varint(2 * len(ORIGIN_HEADER)) + ORIGIN_HEADER.encode(),
            varints(2 * (len(constant) + offsets.lengths)),
            constant,
            offsets,
        ]

    def _origin(self, partition: int) -> bytes:
        return f"{self._topic}/{partition}/".encode()


def _zigzag(numbers: Numbers) -> Numbers:
    return (numbers << 1) ^ (numbers >> 63)
