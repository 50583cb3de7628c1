"""Decodes objects: a batch's lines, and an event's body and metadata."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

import numpy as np

from lakefeed_common.errors import InputError
from lakefeed_common.lake import batches
from lakefeed_common.lake.metadata import BatchMetadata, EventMetadata
from lakefeed_common.lake.records import Partition, Record
from lakefeed_producer.restore.chain import Span
from lakefeed_producer.restore.lines import decode_lines
from lakefeed_producer.restore.objects import Found
from lakefeed_producer.restore.records import Columns
from lakefeed_producer.restore.store import Fetched


@dataclass(frozen=True)
class Batch:
    """A batch object whose metadata and checksum have been verified.

    Attributes:
        span: the offsets that it holds.
        metadata: its metadata.
        body: compressed.
    """

    span: Span
    metadata: BatchMetadata
    body: bytes

    @classmethod
    def of(cls, found: Found, fetched: Fetched) -> Batch:
        """Verify an object.

        Raises:
            InputError: it is damaged.
        """
        metadata = BatchMetadata.parse(fetched.metadata)
        if metadata.end <= found.offset:
            raise InputError(f"its metadata says that it ends at {metadata.end:,}, before it starts")
        if sha256(fetched.body).hexdigest() != metadata.sha256:
            raise InputError("its body is not the one that was stored: the SHA-256 differs from its metadata")
        return cls(Span(found.offset, metadata.end), metadata, fetched.body)

    def columns(self, topic: str, partition: int) -> Iterator[Columns]:
        """Its records, a mebibyte of lines at a time.

        Raises:
            InputError: it is damaged.
        """
        records, position = 0, self.span.start
        for lines in batches.lines_of(self.body):
            columns = decode_lines(topic, partition, lines)
            _check_offsets(columns, position, self.span.end)
            records += len(columns)
            position = int(columns.offsets[-1]) + 1
            yield columns
        if records != self.metadata.records:
            raise InputError(f"it has {records:,} lines, and its metadata says {self.metadata.records:,}")


def _check_offsets(columns: Columns, begin: int, end: int) -> None:
    offsets = columns.offsets
    if offsets[0] < begin or offsets[-1] >= end or (np.diff(offsets) <= 0).any():
        raise InputError(f"its offsets are not ascending from {begin:,} to before {end:,}")


@dataclass(frozen=True)
class Event:
    """The record of a one-event object.

    Attributes:
        record: as it was in Kafka; without metadata, the value alone, at midnight of its day.
        omitted: what did not fit into the metadata: `key`, `headers`.
        has_metadata: whether the object has any.
    """

    record: Record
    omitted: Sequence[str]
    has_metadata: bool

    @classmethod
    def of(cls, where: Partition, found: Found, fetched: Fetched) -> Event:
        """Decode an object.

        Raises:
            InputError: its metadata is damaged.
        """
        has_metadata = any(name.startswith("lakefeed-") for name in fetched.metadata)
        if not has_metadata:
            midnight = datetime.fromisoformat(found.day).replace(tzinfo=UTC)
            record = Record(where, found.offset, int(midnight.timestamp() * 1000), None, fetched.body)
            return cls(record, (), has_metadata)
        kept = EventMetadata.parse(fetched.metadata)
        record = Record(where, found.offset, kept.timestamp_ms, kept.key, fetched.body, kept.headers)
        return cls(record, kept.omitted, has_metadata)
