"""A batch: consecutive records of a partition, and the object that they become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lakefeed_common.errors import InputError
from lakefeed_common.lake import batches
from lakefeed_common.lake.keys import BATCH_SUFFIX, batch_key
from lakefeed_common.lake.metadata import BatchMetadata, hash_of
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.dead_letters.format import DeadLetter


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

        Neither names the end: every worker that stores records from this position on writes this key.
        """
        if not self.conflict:
            return batch_key(batches, self.first, self.start)
        # Another topic of the same name may have had a conflict there.
        stem = batch_key(dead_letters, self.first, self.start).removesuffix(BATCH_SUFFIX)
        return f"{stem}-{hash_of(self.first)[:16]}{BATCH_SUFFIX}"

    def encode(self) -> tuple[bytes, BatchMetadata]:
        """The body of its object and the metadata: see `lake.batches.compressed`."""
        return batches.compressed(self.lines, self.first, self.end)


def batch_metadata(existing: Mapping[str, str]) -> BatchMetadata | None:
    """What an object's metadata says of a batch; None if it is another object."""
    try:
        return BatchMetadata.parse(existing)
    except InputError:
        return None
