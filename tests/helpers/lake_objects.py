"""Objects of a bucket as the consumer stores them: batches, and one for each event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from lakefeed_common.errors import MissingError
from lakefeed_common.lake.batches import compressed
from lakefeed_common.lake.keys import batch_key, event_key
from lakefeed_common.lake.lines import to_line
from lakefeed_common.lake.metadata import event_metadata
from lakefeed_common.lake.records import Partition, Record
from lakefeed_producer.restore.objects import Listed
from lakefeed_producer.restore.store import Fetched

DAY_MS = 86_400_000
START_MS = 1_767_225_600_000
"""The first millisecond of 2026."""


class Stored(NamedTuple):
    """An object."""

    key: str
    body: bytes
    metadata: dict[str, str]


def some_records(
    offsets: Iterable[int], partition: int = 0, topic: str = "prices", *, start_ms: int = START_MS
) -> list[Record]:
    """Records with keys, headers and timestamps of all kinds, one a second."""
    where = Partition(topic, partition)
    return [
        Record(
            where,
            offset,
            start_ms + 1_000 * offset - offset % 7,
            None if offset % 3 == 0 else b"" if offset % 50 == 1 else b"key-%d" % (offset % 5),
            b"{}"
            if offset % 97 == 5
            else b'{"n":%d,"text":"a\\"b\xc3\xa4%s"}' % (offset, b"x" * (offset % 40)),
            () if offset % 11 == 4 else (("source", b"a.csv"), ("row", b"%d" % offset), ("none", None)),
        )
        for offset in offsets
    ]


def batch(
    records: Sequence[Record], start: int | None = None, end: int | None = None, prefix: str = "batches"
) -> Stored:
    """A batch object of some records, from `start` to `end`: those of its records by default."""
    first = records[0]
    lines = [to_line(record, record.value or b"") for record in records]
    body, metadata = compressed(lines, first, records[-1].offset + 1 if end is None else end)
    key = batch_key(prefix, first, first.offset if start is None else start)
    return Stored(key, body, metadata.to_dict())


def batches(records: Sequence[Record], size: int) -> Iterator[Stored]:
    """A chain of batches of up to `size` records, each of one day."""
    begin = 0
    while begin < len(records):
        day = records[begin].timestamp_ms // DAY_MS
        end = begin
        while end < min(begin + size, len(records)) and records[end].timestamp_ms // DAY_MS == day:
            end += 1
        following = records[end].offset if end < len(records) else None
        yield batch(records[begin:end], end=following)
        begin = end


def event(record: Record) -> Stored:
    """A one-event object."""
    return Stored(event_key("events", record), record.value or b"", event_metadata(record))


class MemoryStore:
    """A bucket in memory.

    Attributes:
        objects: by key.
        read: the keys of the bodies that were read.
    """

    def __init__(self, stored: Iterable[Stored] = ()) -> None:
        self.objects = {one.key: one for one in stored}
        self.read: list[str] = []

    def list(self, folder: str) -> Iterator[Listed]:
        for key in sorted(self.objects):
            if key.startswith(folder):
                yield Listed(key, len(self.objects[key].body))

    def head(self, key: str) -> Fetched:
        return Fetched(self._metadata(key))

    def get(self, key: str) -> Fetched:
        self.read.append(key)
        return Fetched(self._metadata(key), self.objects[key].body)

    def _metadata(self, key: str) -> Mapping[str, str]:
        if key not in self.objects:
            raise MissingError(f"there is no {key}")
        return self.objects[key].metadata
