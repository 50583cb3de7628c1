"""Objects of a topic as the consumer stores them, for compactions to read."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

import orjson

from lakefeed_common.lake.keys import batch_key, event_key
from lakefeed_common.lake.lines import to_line
from lakefeed_common.lake.metadata import BatchMetadata, event_metadata, hash_of
from lakefeed_common.lake.records import Partition, Record

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NOW_MS = 1_790_000_000_000


def record(topic: str, partition: int, offset: int, value: bytes, timestamp_ms: int = NOW_MS) -> Record:
    """A record without key and headers."""
    return Record(Partition(topic, partition), offset, timestamp_ms, None, value)


def price(offset: int) -> bytes:
    """An event whose content says which one it is."""
    return orjson.dumps(
        {"ticker": f"T{offset % 7}", "close": offset + 0.5, "volume": offset, "up": offset % 2 == 0}
    )


def prices(topic: str, partition: int, offsets: Sequence[int], timestamp_ms: int = NOW_MS) -> list[Record]:
    """Records with such events."""
    return [record(topic, partition, each, price(each), timestamp_ms) for each in offsets]


def put_batch(s3: S3Client, bucket: str, records: Sequence[Record], start: int, end: int) -> str:
    """Store records of one partition and day as a batch; its key."""
    body = gzip.compress(b"".join(to_line(each, each.value or b"") for each in records), 1)
    first = records[0]
    about = BatchMetadata(end, len(records), first.timestamp_ms, hash_of(first), sha256(body).hexdigest())
    key = batch_key("batches", first, start)
    s3.put_object(Bucket=bucket, Key=key, Body=body, Metadata=about.to_dict(), IfNoneMatch="*")
    return key


def put_events(s3: S3Client, bucket: str, records: Sequence[Record]) -> None:
    """Store each record as an object of its own."""
    for each in records:
        s3.put_object(
            Bucket=bucket,
            Key=event_key("events", each),
            Body=each.value or b"",
            Metadata=event_metadata(each),
        )
