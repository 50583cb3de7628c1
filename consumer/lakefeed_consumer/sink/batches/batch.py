"""A batch: consecutive records of a partition, and the object that they become."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from lakefeed_common.lake.keys import BATCH_SUFFIX, batch_key
from lakefeed_common.lake.metadata import BatchMetadata, hash_of
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.dead_letters.format import DeadLetter

# Level 1 takes a third of the CPU of level 6, for a tenth more bytes. 16 more window bits: a gzip header.
_LEVEL, _GZIP = 1, 16 + zlib.MAX_WBITS


class Stamp(NamedTuple):
    """A timestamp in milliseconds that stands for a number of records: those that were fetched together."""

    timestamp_ms: int
    records: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records of one partition and one UTC day.

    Attributes:
        partition: of the records.
        start: the position in the chain; at most the first record's offset.
        end: the position after the last record.
        first: the first record, be it an event or a dead letter.
        lines: of the events.
        dead_letters: the other records; they are stored before the batch.
        stamps: timestamps of the records.
        conflict: whether the key of the batch has other records, so that it is kept as a conflict.
    """

    partition: Partition
    start: int
    end: int
    first: Record
    lines: Sequence[bytes]
    dead_letters: Sequence[DeadLetter]
    stamps: Sequence[Stamp]
    conflict: bool = False

    def key(self, batches: str, dead_letters: str) -> str:
        """The key of its object, or of the conflict; the arguments are the prefixes of both.

        Neither names the end: whoever stores these records from this position on writes the same key.
        """
        if not self.conflict:
            return batch_key(batches, self.first, self.start)
        # Another topic of the same name may have had a conflict there.
        stem = batch_key(dead_letters, self.first, self.start).removesuffix(BATCH_SUFFIX)
        return f"{stem}-{hash_of(self.first)[:16]}{BATCH_SUFFIX}"

    def encode(self) -> tuple[bytes, BatchMetadata]:
        """The body of its object, gzip, and the metadata. Takes a while: about a second for 100 MB."""
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        body = compressor.compress(b"".join(self.lines)) + compressor.flush()
        return body, BatchMetadata(
            self.end,
            len(self.lines),
            self.first.timestamp_ms,
            hash_of(self.first),
            sha256(body).hexdigest(),
        )
