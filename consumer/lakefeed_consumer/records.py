"""A Kafka record as the consumer's core sees it, and the keys of the objects it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import NamedTuple

_DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()


class Partition(NamedTuple):
    """One partition of a topic."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a topic; `timestamp_ms` is milliseconds since 1970, the record's own."""

    partition: Partition
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def time(self) -> datetime:
        """The record's timestamp in UTC."""
        return datetime.fromtimestamp(self.timestamp_ms / 1000, UTC)


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return date.fromordinal(_EPOCH + number).isoformat()


def object_key(prefix: str, record: Record) -> str:
    """`<prefix>/<topic>/dt=<YYYY-MM-DD>/<partition, 5 digits>-<offset, 20 digits>.json`.

    The same record always has the same key: that is what makes writing again harmless.
    """
    # A record of before 1970 is one without a timestamp, which Kafka marks by -1.
    day = _day(max(record.timestamp_ms, 0) // _DAY_MS)
    topic, number = record.partition
    return f"{prefix}/{topic}/dt={day}/{number:05d}-{record.offset:020d}.json"
