"""Objects of a topic as the consumer stores them, for compactions to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

from lakefeed_common.lake.keys import event_key
from lakefeed_common.lake.metadata import event_metadata
from lakefeed_common.lake.records import Partition, Record
from tests.helpers.lake_objects import batch

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
    stored = batch(records, start, end)
    s3.put_object(Bucket=bucket, Key=stored.key, Body=stored.body, Metadata=stored.metadata, IfNoneMatch="*")
    return stored.key


def put_events(s3: S3Client, bucket: str, records: Sequence[Record]) -> None:
    """Store each record as an object of its own."""
    for each in records:
        s3.put_object(
            Bucket=bucket,
            Key=event_key("events", each),
            Body=each.value or b"",
            Metadata=event_metadata(each),
        )
