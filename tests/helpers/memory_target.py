"""A topic in memory that records are restored into: what a `Sender` sends, and the `Log` of it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence

from aiokafka.record.memory_records import MemoryRecords

from lakefeed_common.errors import LakefeedError
from lakefeed_common.lake.records import Partition, Record
from lakefeed_producer.kafka.record_batches import RecordBatch
from lakefeed_producer.kafka.sender import Report
from lakefeed_producer.restore.tail import Beat, Origin, Placed


class Killed(BaseException):
    """The program was killed."""


def parse(data: bytes, topic: str, partition: int, base: int = 0) -> list[Record]:
    """A record batch, as aiokafka reads it."""
    found = MemoryRecords(data)
    parsed = []
    while (batch := found.next_batch()) is not None:
        assert batch.validate_crc()
        for one in batch:
            headers = tuple((name, value) for name, value in one.headers)
            where = Partition(topic, partition)
            parsed.append(Record(where, base + one.offset, one.timestamp, one.key, one.value, headers))
    return parsed


class MemoryTarget:
    """A topic.

    Args:
        partitions: how many there are.

    Attributes:
        records: of each partition; None is the marker of a transaction.
        first: the first offset of each partition; what is before was deleted.
    """

    def __init__(self, partitions: int) -> None:
        self.records: list[list[Record | None]] = [[] for _ in range(partitions)]
        self.first = [0] * partitions

    def fence(self) -> None:
        """Append what `Fence` leaves in each partition."""
        for records in self.records:
            records.append(None)

    def bounds(self) -> tuple[list[int], list[int]]:
        return list(self.first), [len(records) for records in self.records]

    def placed(self, begin: Sequence[int], end: Sequence[int], beat: Beat) -> Iterator[Placed]:
        for partition, (low, high) in enumerate(zip(begin, end, strict=True)):
            for offset in range(low, high):
                beat()
                if (record := self.records[partition][offset]) is not None:
                    yield Placed(partition, offset, Origin.of(record.headers))

    def append(self, records: RecordBatch) -> int:
        """Append a record batch; returns the end offset."""
        partition = records.part.partition
        log = self.records[partition]
        log += parse(records.bytes(records.compressed(), 1, 0, 0), "target", partition, len(log))
        return len(log)

    def offsets(self) -> dict[tuple[int, int], int]:
        """The offset of each restored record, by partition and by the offset that it had."""
        return {
            (number, origin.offset): at
            for number, records in enumerate(self.records)
            for at, record in enumerate(records)
            if record is not None and (origin := Origin.of(record.headers)) is not None
        }

    def restored(self, partition: int) -> list[Record]:
        """The records of a partition without `lakefeed-origin`, with the offset and topic that it names."""
        found = []
        for record in self.records[partition]:
            if record is not None:
                origin = Origin.of(record.headers)
                assert origin is not None
                assert record.headers[-1][0] == "lakefeed-origin"
                where = Partition(origin.topic, origin.partition)
                found.append(
                    record._replace(partition=where, offset=origin.offset, headers=record.headers[:-1])
                )
        return found


class MemorySender:
    """Sends to a topic in memory.

    Args:
        target: the topic.
        before: called with each record batch before it is appended; may raise `Killed`.
        after: the same, after it was appended and before it is acknowledged.
    """

    trouble = ""

    def __init__(
        self,
        target: MemoryTarget,
        before: Callable[[RecordBatch], None] = lambda _: None,
        after: Callable[[RecordBatch], None] = lambda _: None,
    ) -> None:
        self.reports: queue.Queue[Report] = queue.Queue()
        self.broken: LakefeedError | None = None
        self._target = target
        self._before = before
        self._after = after

    def put(self, records: RecordBatch) -> None:
        self._before(records)
        end = self._target.append(records)
        self._after(records)
        self.reports.put(Report(records, [], end))
