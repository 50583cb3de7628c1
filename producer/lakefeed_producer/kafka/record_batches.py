"""Encodes Kafka record batches (magic 2) from columns.

The format is specified at https://kafka.apache.org/documentation/#recordbatch. Each part of a record is a
column or the same in all records, so there is no Python object and no call per record.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from lakefeed_producer.csv.byte_columns import Bytes, Part, concat, total_lengths
from lakefeed_producer.csv.splitter import Positions
from lakefeed_producer.kafka.batch import EventBatch
from lakefeed_producer.kafka.compression import CODECS, compress
from lakefeed_producer.kafka.numbers import digits, varint, varints
from lakefeed_producer.kafka.publication import Publication

# Limit of the uncompressed size, so that a batch never exceeds the topic's limit however badly it compresses.
BATCH_BYTES = 1 << 20
# From the base offset to the CRC, which covers everything that follows.
_HEAD = struct.Struct(">qiibI")
_CHECKED = struct.Struct(">hiqqqhii")
_MAGIC = 2
_NO_LEADER_EPOCH = -1
# Upper bound of a record's size without key, value and headers: four varints of five bytes, three of one.
_MAX_OVERHEAD = 4 * 5 + 3


@dataclass(frozen=True)
class BatchPart:
    """Events of a batch that go to one partition, in their order."""

    partition: int
    index: slice | Positions

    def __len__(self) -> int:
        return self.index.stop - self.index.start if isinstance(self.index, slice) else len(self.index)

    def indices(self) -> list[int]:
        """The positions of the events in the batch."""
        if isinstance(self.index, slice):
            return list(range(self.index.start, self.index.stop))
        found: list[int] = self.index.tolist()
        return found

    def subset(self, begin: int, end: int) -> BatchPart:
        """The events of an index range of this part."""
        if isinstance(self.index, slice):
            return BatchPart(self.partition, slice(self.index.start + begin, self.index.start + end))
        return BatchPart(self.partition, self.index[begin:end])


@dataclass(eq=False)
class RecordBatch:
    """An encoded record batch, except for its compression, producer id, epoch and sequence.

    Attributes:
        part: its records' partition, and their place in what was encoded.
        compression: name of the codec.
        first_ms, max_ms: timestamp of the first record, to which the others are relative, and the latest.
        records: the uncompressed records.
        halves: encodes the same events as two record batches; there must be more than one.
        size: bytes of the uncompressed records.
    """

    part: BatchPart
    compression: str
    first_ms: int
    max_ms: int
    records: Bytes
    halves: Callable[[], tuple[RecordBatch, RecordBatch]]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.records)

    def compressed(self) -> bytes:
        """Compress the records, and release the uncompressed ones. Called once."""
        compressed = compress(self.compression, self.records)
        self.records = np.zeros(0, np.uint8)
        return compressed

    def bytes(self, compressed: bytes, producer_id: int, epoch: int, sequence: int) -> bytes:
        """The complete record batch.

        Args:
            compressed: the compressed records.
            producer_id, epoch: the producer that sends it.
            sequence: sequence number of its first record in the partition.
        """
        from aiokafka.record.util import calc_crc32c

        codec, count = CODECS.index(self.compression), len(self.part)
        checked = _CHECKED.pack(
            codec, count - 1, self.first_ms, self.max_ms, producer_id, epoch, sequence, count
        )
        checked += compressed
        # The length does not include itself and the base offset.
        length = _HEAD.size - 12 + len(checked)
        return _HEAD.pack(0, length, _NO_LEADER_EPOCH, _MAGIC, calc_crc32c(checked)) + checked


class RecordBatchEncoder:
    """Encodes batches of events as record batches.

    Args:
        compression: name of the codec.
        max_message_bytes: size of the largest record batch.
    """

    def __init__(self, compression: str, max_message_bytes: int) -> None:
        self._compression = compression
        self._limit = min(max_message_bytes, BATCH_BYTES)

    def split(self, batch: EventBatch) -> Iterator[BatchPart]:
        """Split a batch into parts of one partition each that fit into a record batch, in order."""
        if not len(batch):
            return
        digits = len(str(int(batch.rows[-1])))
        sizes = batch.values.lengths() + (len(_constant_headers(batch.publication)) + digits + _MAX_OVERHEAD)
        if batch.keys is not None:
            sizes = sizes + batch.keys.lengths
        partitions = np.flatnonzero(np.bincount(batch.partitions)).tolist()
        for partition in partitions:
            if len(partitions) == 1:
                whole = BatchPart(partition, slice(0, len(batch)))
            else:
                whole = BatchPart(partition, np.flatnonzero(batch.partitions == partition))
            ends = np.cumsum(sizes[whole.index])
            begin = 0
            while begin < len(whole):
                before = int(ends[begin - 1]) if begin else 0
                end = int(np.searchsorted(ends, before + self._limit - _HEAD.size - _CHECKED.size, "right"))
                end = max(end, begin + 1)
                yield whole.subset(begin, end)
                begin = end

    def encode(self, batch: EventBatch, part: BatchPart) -> RecordBatch:
        """Encode one part of a batch."""

        def halves() -> tuple[RecordBatch, RecordBatch]:
            middle = len(part) // 2
            first, second = part.subset(0, middle), part.subset(middle, len(part))
            return self.encode(batch, first), self.encode(batch, second)

        columns = _record_columns(batch, part)
        sizes = varints(2 * total_lengths(columns, len(part)))
        records, _ = concat([sizes, *columns], len(part))
        now_ms = time.time_ns() // 1_000_000
        return RecordBatch(part, self._compression, now_ms, now_ms, records, halves)


def _record_columns(batch: EventBatch, part: BatchPart) -> Sequence[Part]:
    """What follows the length of each record, from left to right."""
    values, rows = batch.values.take(part.index), batch.rows[part.index]
    key: list[Part] = [b"\x01"]  # the length -1, which means no key
    if batch.keys is not None:
        keys = batch.keys.take(part.index)
        key = [varints(np.where(keys.lengths > 0, 2 * keys.lengths, 1)), keys]
    numbers = digits(rows)
    return [
        b"\0\0",  # attributes, and the timestamp delta
        varints(2 * np.arange(len(part))),
        *key,
        varints(2 * values.lengths()),
        *values.parts,
        _constant_headers(batch.publication),
        varints(2 * numbers.lengths),
        numbers,
    ]


@lru_cache(maxsize=16)
def _constant_headers(publication: Publication) -> bytes:
    """The number of headers, those that are the same in all records, and the name of the last one."""
    common = publication.headers
    named = [(name.encode(), value) for name, value in common]
    texts = [text for pair in named for text in pair] + [b"row"]
    return varint(2 * (len(common) + 1)) + b"".join(varint(2 * len(text)) + text for text in texts)
