"""A Kafka record, and the key of the object that it becomes."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import NamedTuple

from lakefeed_common.tables import PARTITION_KEY

_DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()
_LAST_DAY = date.max.toordinal() - _EPOCH


class Partition(NamedTuple):
    """One partition of a topic."""

    topic: str
    number: int


class Record(NamedTuple):
    """One record of a topic; `timestamp_ms` is milliseconds since 1970, the record's own."""

    partition: Partition
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


# Consecutive records mostly have the same partition and day.
@lru_cache(maxsize=1024)
def _stem(prefix: str, partition: Partition, day: int) -> str:
    # A record without a timestamp has -1, and one in micro- or nanoseconds is in a year that no date has.
    when = date.fromordinal(_EPOCH + min(max(day, 0), _LAST_DAY))
    return f"{prefix}/{partition.topic}/{PARTITION_KEY}={when.isoformat()}/{partition.number:05d}-"


def object_key(prefix: str, record: Record) -> str:
    """`<prefix>/<topic>/dt=<YYYY-MM-DD>/<partition, 5 digits>-<offset, 20 digits>.json`.

    The same record always has the same key, which makes a second put harmless.
    """
    stem = _stem(prefix, record.partition, record.timestamp_ms // _DAY_MS)
    return f"{stem}{record.offset:020d}.json"
