"""A Kafka record as the consumer's core sees it, and the keys of the objects it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import NamedTuple

_DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()
_LAST_DAY = date.max.toordinal() - _EPOCH


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


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return date.fromordinal(_EPOCH + number).isoformat()


def object_key(prefix: str, record: Record) -> str:
    """`<prefix>/<topic>/dt=<YYYY-MM-DD>/<partition, 5 digits>-<offset, 20 digits>.json`.

    The same record always has the same key: that is what makes writing again harmless.
    """
    # Kafka marks a record without a timestamp by -1, and a producer that writes micro- or nanoseconds
    # brings it into years that no date has.
    day = _day(min(max(record.timestamp_ms, 0) // _DAY_MS, _LAST_DAY))
    topic, number = record.partition
    return f"{prefix}/{topic}/dt={day}/{number:05d}-{record.offset:020d}.json"
