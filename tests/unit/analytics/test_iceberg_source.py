"""Reading the objects of a compaction."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest

from lakefeed_analytics.iceberg import source as reading
from lakefeed_analytics.iceberg.chain import Stored
from lakefeed_analytics.iceberg.source import Source
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common.lake.keys import event_key
from lakefeed_common.lake.lines import from_line
from lakefeed_common.lake.metadata import BatchMetadata
from tests.helpers.lake_objects import batch, some_records

SETTINGS = CompactSettings(bucket="lake")
DAY = "2026-01-01"


class MemoryS3:
    """Answers GET requests for objects, and knows which were asked for."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.asked = threading.Semaphore(0)

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 - as boto3 calls it
        assert Bucket == SETTINGS.bucket
        self.asked.release()
        body, metadata = self.objects[Key]
        return {"Body": io.BytesIO(body), "Metadata": metadata}


def put_batches(s3: MemoryS3, count: int) -> list[Stored]:
    """Batches of five records each."""
    found = []
    for start in range(0, 5 * count, 5):
        key, body, metadata = batch(some_records(range(start, start + 5)))
        s3.objects[key] = body, metadata
        about = BatchMetadata.parse(metadata)
        stored = Stored(start, about.end, key, DAY, len(body), batch=True, first=start)
        found.append(stored._replace(sha256=about.sha256, records=about.records))
    return found


def put_events(s3: MemoryS3, offsets: range, size: int = 10, day: str = DAY) -> list[Stored]:
    """One object per event, as large as they say."""
    found = []
    for record in some_records(offsets):
        key = event_key("events", record)
        s3.objects[key] = record.value or b"", {}
        found.append(
            Stored(record.offset, record.offset + 1, key, day, size, batch=False, first=record.offset)
        )
    return found


def read(s3: MemoryS3, objects: list[Stored]) -> Any:
    """A generator of the lines; the client is only asked for objects."""
    client: Any = s3
    return Source(client, SETTINGS, "prices").lines(objects)


def spans(s3: MemoryS3, objects: list[Stored]) -> list[tuple[int, int]]:
    """The offsets of what is read together; checks that its lines are those."""
    found = []
    for lines, start, end in read(s3, objects):
        offsets = [from_line("prices", line).offset for line in lines.data.splitlines()]
        assert offsets == list(range(start, end))
        found.append((start, end))
    return found


def test_batches_are_read_in_order_and_events_of_a_day_together() -> None:
    s3 = MemoryS3()
    first, second = put_batches(s3, 2)
    events = [*put_events(s3, range(10, 14)), *put_events(s3, range(14, 16), day="2026-01-02")]
    assert spans(s3, [first, second, *events]) == [(0, 5), (5, 10), (10, 14), (14, 16)]
    assert spans(s3, [first, *put_events(s3, range(5, 7))]) == [(0, 5), (5, 7)]
    assert spans(s3, []) == []


def test_events_are_read_together_up_to_a_number_and_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    s3 = MemoryS3()
    monkeypatch.setattr(reading, "_TOGETHER", 3)
    monkeypatch.setattr(reading, "_TOGETHER_BYTES", 100)
    assert spans(s3, put_events(s3, range(7))) == [(0, 3), (3, 6), (6, 7)]
    assert spans(s3, put_events(s3, range(5), size=50)) == [(0, 2), (2, 4), (4, 5)]
    # One that is larger than the limit.
    assert spans(s3, put_events(s3, range(2), size=101)) == [(0, 1), (1, 2)]


def test_the_next_batch_is_read_while_the_caller_works() -> None:
    s3 = MemoryS3()
    lines = read(s3, put_batches(s3, 3))
    next(lines)
    for _ in range(2):
        assert s3.asked.acquire(timeout=60)
    assert not s3.asked.acquire(blocking=False)
    lines.close()


def test_a_batch_that_cannot_be_read_comes_after_those_before_it() -> None:
    s3 = MemoryS3()
    first, second = put_batches(s3, 2)
    del s3.objects[second.key]
    lines = read(s3, [first, second])
    assert next(lines)[2] == first.end
    with pytest.raises(KeyError):
        next(lines)
