"""Keys of objects: one for each event, or one for each batch of events."""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from lakefeed_common.lake.records import Partition, Record
from lakefeed_common.tables import PARTITION_KEY

_DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()
_LAST_DAY = date.max.toordinal() - _EPOCH
EVENT_SUFFIX = ".json"
BATCH_SUFFIX = ".json.gz"
_KEY = re.compile(
    rf"(?P<topic>[A-Za-z0-9._-]+)/{PARTITION_KEY}=(?P<day>\d{{4}}-\d\d-\d\d)/"
    r"(?P<partition>\d{5}|[1-9]\d{5,9})-(?P<offset>\d{20})(?P<suffix>\.json|\.json\.gz)",
    re.ASCII,
)
_MAX_PARTITION, _MAX_OFFSET = 2**31 - 1, 2**63 - 1


class ObjectKey(NamedTuple):
    """A key without its prefix. Keys of one topic sort by day, partition and offset.

    Attributes:
        partition: topic and partition.
        day: `YYYY-MM-DD`, in UTC: of the event, or of a batch's first one.
        offset: of the event, or the position at which the batch starts.
        batch: whether it is the key of a batch.
    """

    partition: Partition
    day: str
    offset: int
    batch: bool

    def text(self, prefix: str) -> str:
        """The whole key."""
        name = f"{self.partition.number:05d}-{self.offset:020d}{BATCH_SUFFIX if self.batch else EVENT_SUFFIX}"
        return folder(prefix, self.partition.topic, self.day) + name

    @classmethod
    def parse(cls, prefix: str, text: str) -> ObjectKey | None:
        """Parse a whole key; None for any other object, such as a conflict that was kept.

        The key of what is returned is this text: two objects never have the same one.
        """
        match = _KEY.fullmatch(text.removeprefix(f"{prefix}/")) if text.startswith(f"{prefix}/") else None
        if match is None or not _is_day(match["day"]):
            return None
        number, offset = int(match["partition"]), int(match["offset"])
        if number > _MAX_PARTITION or offset > _MAX_OFFSET:
            return None
        return cls(Partition(match["topic"], number), match["day"], offset, match["suffix"] == BATCH_SUFFIX)


def folder(prefix: str, topic: str, day: str) -> str:
    """What the keys of a topic's day begin with: `<prefix>/<topic>/dt=<YYYY-MM-DD>/`."""
    return f"{prefix}/{topic}/{PARTITION_KEY}={day}/"


@lru_cache(maxsize=1024)
def _is_day(text: str) -> bool:
    """Whether there is such a day."""
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=64)
def _day(day: int) -> str:
    """The UTC day of a record's timestamp: `YYYY-MM-DD`.

    A record without a timestamp has -1, and one in micro- or nanoseconds is in a year that no date has: they
    get the first and the last day.
    """
    return date.fromordinal(_EPOCH + min(max(day, 0), _LAST_DAY)).isoformat()


# Consecutive records mostly have the same partition and day.
@lru_cache(maxsize=1024)
def _stem(prefix: str, partition: Partition, day: int) -> str:
    return f"{folder(prefix, partition.topic, _day(day))}{partition.number:05d}-"


def event_key(prefix: str, record: Record) -> str:
    """`<prefix>/<topic>/dt=<YYYY-MM-DD>/<partition, 5 digits>-<offset, 20 digits>.json`.

    The same record always has the same key, which makes a second put harmless.
    """
    stem = _stem(prefix, record.partition, record.timestamp_ms // _DAY_MS)
    # Half the time of a format.
    return f"{stem}{str(record.offset).zfill(20)}{EVENT_SUFFIX}"


def batch_key(prefix: str, first: Record, start: int) -> str:
    """`<prefix>/<topic>/dt=<YYYY-MM-DD>/<partition, 5 digits>-<start, 20 digits>.json.gz`.

    The end is not in the key: two workers that store the same records write the same key, wherever they end.

    Args:
        prefix: first part of the key.
        first: the batch's first record.
        start: the end of the batch before, or the committed offset; at most the first record's offset.
    """
    return f"{_stem(prefix, first.partition, first.timestamp_ms // _DAY_MS)}{start:020d}{BATCH_SUFFIX}"
