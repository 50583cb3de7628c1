"""Makes Kafka's record batches (magic 2) out of columns.

The format is that of https://kafka.apache.org/documentation/#recordbatch. Each part of a record is a column,
or the same in all of them, so there is no Python object and no call for a single record.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from lakefeed_producer.arrivals import Publication
from lakefeed_producer.records import Positions
from lakefeed_producer.texts import Bytes, Numbers, Part, Texts, joined, lengths

if TYPE_CHECKING:
    from lakefeed_producer.delivery import Batch

# Uncompressed, so that a batch is never larger than the topic takes however badly it can be compressed.
_BATCH_BYTES = 1 << 20
# From the base offset to the CRC, which covers all that follows.
_HEAD = struct.Struct(">qiibI")
_CHECKED = struct.Struct(">hiqqqhii")
_MAGIC = 2
_NO_LEADER_EPOCH = -1
# What a record has at most besides key, value and headers: four numbers of up to five bytes, three of one.
_MOST_BESIDES = 4 * 5 + 3
# A 64-bit number has so many digits.
_POWERS = 10 ** np.arange(1, 19, dtype=np.int64)
# Numbers of four digits, so that there is one division for four.
_FOUR_DIGITS = np.frombuffer(b"".join(b"%04d" % number for number in range(10_000)), "V4")


def headers(publication: Publication) -> list[tuple[str, bytes]]:
    """The headers that all records of a publication have; `row` comes behind."""
    return [("source", publication.source), ("publication", publication.mark)]


@dataclass(frozen=True)
class Cut:
    """Some events of a batch that go to one partition, in their order."""

    partition: int
    index: slice | Positions

    def __len__(self) -> int:
        return self.index.stop - self.index.start if isinstance(self.index, slice) else len(self.index)

    def indices(self) -> list[int]:
        """The events by their place in the batch."""
        if isinstance(self.index, slice):
            return list(range(self.index.start, self.index.stop))
        found: list[int] = self.index.tolist()
        return found

    def part(self, begin: int, end: int) -> Cut:
        """Those events from one of the cut to before another."""
        if isinstance(self.index, slice):
            return Cut(self.partition, slice(self.index.start + begin, self.index.start + end))
        return Cut(self.partition, self.index[begin:end])


@dataclass(eq=False)
class RecordBatch:
    """A record batch that lacks only its compression, and its producer's id and sequence.

    Attributes:
        batch, cut: the events.
        compression: name of the codec.
        milliseconds: its time, since 1970.
        records: the records.
        halves: makes two of it, if it has more than one record.
        size: bytes of its records, uncompressed.
    """

    batch: Batch
    cut: Cut
    compression: str
    milliseconds: int
    records: Bytes
    halves: Callable[[], tuple[RecordBatch, RecordBatch]]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.records)

    def compressed(self) -> bytes:
        """The records as they are sent. Asked for once: then only this is held."""
        compressed = _compress(self.compression, self.records)
        self.records = np.zeros(0, np.uint8)
        return compressed

    def bytes(self, compressed: bytes, producer_id: int, epoch: int, sequence: int) -> bytes:
        """The whole of it.

        Args:
            compressed: the records as they are sent.
            producer_id, epoch: who sends it.
            sequence: number of its first record among those of this producer to the partition.
        """
        from aiokafka.record.util import calc_crc32c

        count, time_ms = len(self.cut), self.milliseconds
        checked = _CHECKED.pack(
            _CODECS.index(self.compression), count - 1, time_ms, time_ms, producer_id, epoch, sequence, count
        )
        checked += compressed
        # What follows the length itself.
        length = _HEAD.size - 12 + len(checked)
        return _HEAD.pack(0, length, _NO_LEADER_EPOCH, _MAGIC, calc_crc32c(checked)) + checked


class Cutter:
    """Cuts batches of events into record batches.

    Args:
        compression: name of the codec.
        max_message_bytes: the largest record batch.
    """

    def __init__(self, compression: str, max_message_bytes: int) -> None:
        self._compression = compression
        self._limit = min(max_message_bytes, _BATCH_BYTES)

    def cut(self, batch: Batch) -> Iterator[Cut]:
        """Parts of a batch, each of one partition and not too large; those of a partition in order."""
        if not len(batch):
            return
        digits = len(str(int(batch.rows[-1])))
        sizes = batch.values.lengths() + (len(_headers(batch.publication)) + digits + _MOST_BESIDES)
        if batch.keys is not None:
            sizes = sizes + batch.keys.lengths
        partitions = np.flatnonzero(np.bincount(batch.partitions)).tolist()
        for partition in partitions:
            if len(partitions) == 1:
                whole = Cut(partition, slice(0, len(batch)))
            else:
                whole = Cut(partition, np.flatnonzero(batch.partitions == partition))
            ends = np.cumsum(sizes[whole.index])
            begin = 0
            while begin < len(whole):
                before = int(ends[begin - 1]) if begin else 0
                end = int(np.searchsorted(ends, before + self._limit - _HEAD.size - _CHECKED.size, "right"))
                end = max(end, begin + 1)
                yield whole.part(begin, end)
                begin = end

    def encode(self, batch: Batch, cut: Cut) -> RecordBatch:
        """The record batch of some events."""

        def halves() -> tuple[RecordBatch, RecordBatch]:
            middle = len(cut) // 2
            first, second = cut.part(0, middle), cut.part(middle, len(cut))
            return self.encode(batch, first), self.encode(batch, second)

        parts = _parts(batch, cut)
        records, _ = joined([_varints(2 * lengths(parts, len(cut))), *parts], len(cut))
        return RecordBatch(batch, cut, self._compression, time.time_ns() // 1_000_000, records, halves)


def _parts(batch: Batch, cut: Cut) -> Sequence[Part]:
    """Each record behind its length, from left to right."""
    values, rows = batch.values.take(cut.index), batch.rows[cut.index]
    key: list[Part] = [b"\x01"]  # no key has the length -1, which is written like this
    if batch.keys is not None:
        keys = batch.keys.take(cut.index)
        key = [_varints(np.where(keys.lengths > 0, 2 * keys.lengths, 1)), keys]
    digits = _digits(rows)
    return [
        b"\0\0",  # attributes, and the difference to the batch's time
        _varints(2 * np.arange(len(cut))),
        *key,
        _varints(2 * values.lengths()),
        *values.parts,
        _headers(batch.publication),
        _varints(2 * digits.lengths),
        digits,
    ]


@lru_cache(maxsize=16)
def _headers(publication: Publication) -> bytes:
    """How many headers there are, those that are the same in all records, and the name of the last."""
    common = headers(publication)
    named = [(name.encode(), value) for name, value in common]
    texts = [text for pair in named for text in pair] + [b"row"]
    return _varint(2 * (len(common) + 1)) + b"".join(_varint(2 * len(text)) + text for text in texts)


def _varint(number: int) -> bytes:
    return _varints(np.array([number]))[0]


def _varints(numbers: Numbers) -> Texts:
    """Numbers in groups of seven bits, the lowest first. Zigzag: a length or a difference comes doubled."""
    width = max(1, -(-int(numbers.max()).bit_length() // 7))
    groups = np.empty((len(numbers), width), np.uint8)
    sizes = np.ones(len(numbers), np.int64)
    for place in range(width):
        left = numbers >> (7 * place)
        more = left > 0x7F
        groups[:, place] = (left & 0x7F) | (more.astype(np.uint8) << 7)
        sizes += more
    return Texts(groups.reshape(-1), np.arange(len(numbers)) * width, sizes)


def _digits(numbers: Positions) -> Texts:
    """Numbers over zero as decimals."""
    sizes = 1 + np.searchsorted(_POWERS, numbers, "right")
    groups = -(-int(sizes.max()) // 4)
    digits = np.empty((len(numbers), groups), "V4")
    left = numbers
    for group in reversed(range(groups)):
        above = left // 10_000
        digits[:, group] = _FOUR_DIGITS[left - 10_000 * above]
        left = above
    ends = 4 * groups * np.arange(1, len(numbers) + 1)
    return Texts(digits.view(np.uint8).reshape(-1), ends - sizes, sizes)


def _compress(codec: str, data: Bytes) -> bytes:
    from aiokafka import codec as codecs

    match codec:
        case "gzip":
            return bytes(codecs.gzip_encode(data))
        case "snappy":
            return bytes(codecs.snappy_encode(data))
        case "lz4":
            return _lz4_frame(data)
        case "zstd":
            return bytes(codecs.zstd_encode(data))
        case _:
            return data.tobytes()


# A frame of blocks of up to 1 MiB that stand for themselves, without checksums: the record batch has its own.
_LZ4_FRAME, _LZ4_END, _LZ4_BLOCK_BYTES = bytes.fromhex("04224d18 60 60 51"), bytes(4), 1 << 20
_LZ4_AS_IT_IS = 1 << 31


def _lz4_frame(data: Bytes) -> bytes:
    """One LZ4 frame; aiokafka's own keeps the interpreter's lock meanwhile, and has checksums.

    The format is that of https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md.
    """
    import cramjam

    frame = [_LZ4_FRAME]
    for begin in range(0, len(data), _LZ4_BLOCK_BYTES):
        block = data[begin : begin + _LZ4_BLOCK_BYTES]
        packed = bytes(cramjam.lz4.compress_block(block.data, store_size=False))
        if len(packed) < len(block):
            frame += [len(packed).to_bytes(4, "little"), packed]
        else:
            frame += [(len(block) | _LZ4_AS_IT_IS).to_bytes(4, "little"), block.tobytes()]
    return b"".join([*frame, _LZ4_END])


# By their numbers in the attributes.
_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
